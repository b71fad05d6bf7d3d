/* dials_when_told ADDRESS PORT: for each line on standard input, a blocking connect; says whom it reached, or the error,
 * and when the connect returned: microseconds of the monotonic clock. */
#include "address.h"

static long now_us(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

int main(int argc, char **argv) {
    if (argc < 3) return 2;
    setvbuf(stdout, NULL, _IOLBF, 0);
    struct address to = address_of(argv[1], argv[2]);
    char line[16];
    while (fgets(line, sizeof line, stdin)) {
        int fd = open_socket(&to, 0);
        int failed = connect(fd, (void *)&to.storage, to.length);
        long returned = now_us();
        if (failed) printf("at=%ld connect=%s\n", returned, error_name(errno));
        else printf("at=%ld ", returned), print_greeting(fd);
        close(fd);
    }
    return 0;
}
