/* config.h: the configuration file of clformer-finetune. */
#ifndef FINETUNE_CONFIG_H
#define FINETUNE_CONFIG_H

typedef struct words {
    char **all; /* [count], then NULL */
    int count;
} words;

/* argv, [argc], with the options of the file that --config names, if any, before its own: one parser reads both, and
 * the later one wins. --config-ends stands between them. Exits if the file can't be read. */
words config_expand(int argc, char **argv);
/* In whatever order they are now. */
void config_free(words *w);

#endif
