/* churns ADDRESS PORT PROCESSES THREADS SECONDS: each thread of each process connects to an echo backend, reads its
 * name, holds the connection for 200 ms, lets the backend close and closes, over and over; after a refusal it waits
 * 2 ms. Prints "made=N refused=N failed=N" of all. */
#include "address.h"
#include <pthread.h>
#include <sys/mman.h>
#include <sys/wait.h>

static struct counts {
    long made, refused, failed;
} *counts;
static struct address to;
static long end;

static void pause_ms(long ms) {
    struct timespec time = {ms / 1000, ms % 1000 * 1000000};
    nanosleep(&time, NULL);
}

static void *churn(void *unused) {
    char byte;
    while (now_ms() < end) {
        int fd = socket(to.storage.ss_family, SOCK_STREAM, 0);
        if (!connect(fd, (void *)&to.storage, to.length)) {
            while (read(fd, &byte, 1) == 1 && byte != '\n') {
            }
            pause_ms(200);
            if (write(fd, "quit\n", 5) == 5)
                while (read(fd, &byte, 1) > 0) {
                }
            __atomic_fetch_add(&counts->made, 1, __ATOMIC_RELAXED);
        } else {
            __atomic_fetch_add(errno == ECONNREFUSED ? &counts->refused : &counts->failed, 1, __ATOMIC_RELAXED);
            pause_ms(2);
        }
        close(fd);
    }
    return unused;
}

int main(int argc, char **argv) {
    if (argc < 6) return 2;
    to = address_of(argv[1], argv[2]);
    int processes = atoi(argv[3]), threads = atoi(argv[4]);
    end = now_ms() + 1000 * atol(argv[5]);
    counts = mmap(NULL, sizeof *counts, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    for (int n = 0; n < processes; n++) {
        if (fork()) continue;
        pthread_t all[64];
        for (int m = 0; m < threads && m < 64; m++) pthread_create(&all[m], NULL, churn, NULL);
        for (int m = 0; m < threads && m < 64; m++) pthread_join(all[m], NULL);
        _exit(0);
    }
    while (wait(NULL) > 0) {
    }
    printf("made=%ld refused=%ld failed=%ld\n", counts->made, counts->refused, counts->failed);
    return 0;
}
