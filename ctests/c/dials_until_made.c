/* dials_until_made ADDRESS PORT: blocking connects, one after the other, as long as they are refused. Says "refused"
 * after the first; in the end "last_refused=N connect=OK|ERRNO": when the last one that was refused began, in
 * microseconds of the monotonic clock. Is killed by SIGALRM after 20 s. */
#include "address.h"

int main(int argc, char **argv) {
    if (argc < 3) return 2;
    setvbuf(stdout, NULL, _IOLBF, 0);
    struct address to = address_of(argv[1], argv[2]);
    alarm(20);
    struct timespec now, pause = {.tv_nsec = 1000000};
    for (long last_refused = 0;;) {
        clock_gettime(CLOCK_MONOTONIC, &now);
        int fd = open_socket(&to, 0);
        int error = connect(fd, (void *)&to.storage, to.length) ? errno : 0;
        close(fd);
        if (error != ECONNREFUSED) {
            printf("last_refused=%ld connect=%s\n", last_refused, error ? error_name(error) : "OK");
            return error != 0;
        }
        if (!last_refused) puts("refused");
        last_refused = now.tv_sec * 1000000 + now.tv_nsec / 1000;
        nanosleep(&pause, NULL);
    }
}
