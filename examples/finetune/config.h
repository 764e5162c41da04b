/* config.h: the configuration file of clformer-finetune. */
#ifndef FINETUNE_CONFIG_H
#define FINETUNE_CONFIG_H

/* argv, [*count], with the options of the file that --config names, if any, before its own: one parser reads both, and
 * the later one wins. --config-ends stands between them. Exits if the file can't be read. The array and its strings
 * live as long as the program. */
char **config_expand(int *count, char **argv);

#endif
