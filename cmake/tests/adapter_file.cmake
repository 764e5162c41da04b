unit(adapter_file)
