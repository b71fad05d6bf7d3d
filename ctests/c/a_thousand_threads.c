/* a_thousand_threads NAME PORT: a thousand threads, all there before the first one begins, visit once each.
 * (a hundred at a time, which a listener's queue holds). Prints "reached=N". */
#include "visit.h"
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>

static char **arguments;
static atomic_int count;
static pthread_barrier_t all;
static sem_t at_once;

static void *one(void *unused) {
    pthread_barrier_wait(&all);
    sem_wait(&at_once);
    count += reached(arguments[1], arguments[2]);
    sem_post(&at_once);
    return unused;
}

int main(int argc, char **argv) {
    if (argc < 3) return 2;
    arguments = argv;
    enum { THREADS = 1000 };
    static pthread_t ids[THREADS];
    pthread_attr_t small;
    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, 64 << 10);
    sem_init(&at_once, 0, 100);
    pthread_barrier_init(&all, NULL, THREADS);
    for (int i = 0; i < THREADS; i++)
        if (pthread_create(&ids[i], &small, one, NULL)) return 1;
    for (int i = 0; i < THREADS; i++) pthread_join(ids[i], NULL);
    printf("reached=%d\n", count);
    return 0;
}
