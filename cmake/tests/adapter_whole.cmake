unit(adapter_whole)
