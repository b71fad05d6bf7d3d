/* makes_room ADDRESS PORT ROUNDS: holds as many connections as it gets; then, in each round, is refused one more, closes
 * one of those it holds, and connects until that is made. Prints "held=N at_once=N longest_us=N refused_us=N alone_us=N
 * flood_us=N": rounds in which the first connect after the close was made, the longest time from a close to the connect
 * that was made, and what a refused connect takes: the median of those in rounds, of a socket alone, and the mean of
 * 10,000 without a pause. */
#include "address.h"
#include <sys/resource.h>

enum { MOST = 2000, ROUNDS = 1000, FLOOD = 10000 };

static struct address to;
static int held[MOST];
static long took[ROUNDS];

static long now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000 + now.tv_nsec;
}

/* A connection, or -1 after ECONNREFUSED. */
static int dial(void) {
    int fd = socket(to.storage.ss_family, SOCK_STREAM, 0);
    if (fd >= 0 && !connect(fd, (void *)&to.storage, to.length)) return fd;
    if (fd < 0 || errno != ECONNREFUSED) {
        printf("error=%s\n", error_name(errno));
        exit(1);
    }
    close(fd);
    return -1;
}

static int later(const void *one, const void *other) { return *(const long *)one > *(const long *)other ? 1 : -1; }

static long median_us(int count) {
    qsort(took, count, sizeof *took, later);
    return took[count / 2] / 1000;
}

int main(int argc, char **argv) {
    if (argc < 4) return 2;
    to = address_of(argv[1], argv[2]);
    struct rlimit files = {MOST + 100, MOST + 100};
    setrlimit(RLIMIT_NOFILE, &files);
    int rounds = atoi(argv[3]), count = 0, at_once = 0;
    long longest = 0;
    if (rounds < 1 || rounds > ROUNDS) return 2;
    while (count < MOST && (held[count] = dial()) >= 0) count++;
    for (int n = 0; n < rounds; n++) {
        struct timespec pause = {.tv_nsec = 3000000};
        nanosleep(&pause, NULL);
        long start = now_ns();
        if (dial() >= 0) return 1;
        took[n] = now_ns() - start;
        int *one = &held[n * 7 % count];
        close(*one);
        start = now_ns();
        int again = 0;
        while ((*one = dial()) < 0) again = 1;
        long time = now_ns() - start;
        if (time > longest) longest = time;
        at_once += !again;
    }
    long refused = median_us(rounds);
    for (int n = 0; n < ROUNDS; n++) {
        long start = now_ns();
        close(socket(to.storage.ss_family, SOCK_STREAM, 0));
        took[n] = now_ns() - start;
    }
    long alone = median_us(ROUNDS), start = now_ns();
    for (int n = 0; n < FLOOD; n++)
        if (dial() >= 0) return 1;
    printf("held=%d at_once=%d longest_us=%ld refused_us=%ld alone_us=%ld flood_us=%ld\n", count, at_once,
           longest / 1000, refused, alone, (now_ns() - start) / FLOOD / 1000);
    return 0;
}
