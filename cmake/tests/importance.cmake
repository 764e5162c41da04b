unit(importance)
