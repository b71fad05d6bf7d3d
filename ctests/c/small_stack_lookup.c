/* small_stack_lookup NAME PORT: a visit of a service, the process's first, in a thread with the smallest stack there is. */
#include "visit.h"
#include <pthread.h>

static char **arguments, line[64];

static void *start(void *unused) {
    (void)unused;
    return (void *)visit(arguments[1], arguments[2], line);
}

int main(int argc, char **argv) {
    if (argc < 3) return 2;
    arguments = argv;
    pthread_t thread;
    pthread_attr_t small;
    void *outcome;
    pthread_attr_init(&small);
    if (pthread_attr_setstacksize(&small, 16384)) return 3;
    if (pthread_create(&thread, &small, start, NULL)) return 4;
    pthread_join(thread, &outcome);
    printf("visit=%s\n", (char *)outcome);
    return 0;
}
