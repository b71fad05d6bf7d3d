/* forks_among_threads NAME PORT THREADS CHILDREN: threads visit NAME without pause while the main thread forks
 * children that each visit it once. A child that hangs is killed by its alarm.
 * Prints "children=N failed=N hung=N threads_failed=N". */
#include "visit.h"
#include <pthread.h>
#include <stdatomic.h>
#include <sys/wait.h>

static char **arguments;
static atomic_int ending, threads_failed;

static void *visits(void *unused) {
    while (!ending) threads_failed += !reached(arguments[1], arguments[2]);
    return unused;
}

int main(int argc, char **argv) {
    if (argc < 5) return 2;
    arguments = argv;
    int threads = atoi(argv[3]), left = atoi(argv[4]), running = 0, children = 0, failed = 0, hung = 0, status;
    pthread_t ids[threads];
    for (int i = 0; i < threads; i++)
        if (pthread_create(&ids[i], NULL, visits, NULL)) return 1;
    while (left || running) {
        if (left && running < 16) {
            pid_t child = fork();
            if (child < 0) return 1;
            if (!child) {
                alarm(20);
                _exit(!reached(argv[1], argv[2]));
            }
            left--, running++, children++;
        } else if (wait(&status) > 0) {
            running--;
            hung += WIFSIGNALED(status);
            failed += WIFEXITED(status) && WEXITSTATUS(status);
        }
    }
    ending = 1;
    for (int i = 0; i < threads; i++) pthread_join(ids[i], NULL);
    printf("children=%d failed=%d hung=%d threads_failed=%d\n", children, failed, hung, threads_failed);
    return 0;
}
