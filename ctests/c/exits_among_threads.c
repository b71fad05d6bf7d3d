/* exits_among_threads NAME PORT THREADS TIMES: so many children, two at a time, that each end after the first thirty
 * visits, with their threads in the middle of others. Prints "failed=N". */
#include "visit.h"
#include <pthread.h>
#include <stdatomic.h>
#include <sys/wait.h>

static char **arguments;
static atomic_int visited;

static void *visits(void *unused) {
    for (;;) visited += reached(arguments[1], arguments[2]);
    return unused;
}

static void child(int threads) {
    alarm(20);
    for (pthread_t id; threads > 0; threads--)
        if (pthread_create(&id, NULL, visits, NULL)) exit(1);
    while (visited < 30) usleep(50);
    exit(0);
}

int main(int argc, char **argv) {
    if (argc < 5) return 2;
    arguments = argv;
    int failed = 0, status;
    for (int i = 0; i < atoi(argv[4]); i++) {
        if (!fork()) child(atoi(argv[3]));
        if (i && wait(&status) > 0) failed += status != 0;
    }
    while (wait(&status) > 0) failed += status != 0;
    printf("failed=%d\n", failed);
    return 0;
}
