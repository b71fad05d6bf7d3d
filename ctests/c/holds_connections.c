/* holds_connections ADDRESS PORT COUNT: opens so many connections, says "held=N refused=N", and keeps them; for each
 * line on standard input it asks each for an echo and says "alive=N". Ends with standard input. */
#include "address.h"

int main(int argc, char **argv) {
    if (argc < 4) return 2;
    setvbuf(stdout, NULL, _IOLBF, 0);
    struct address to = address_of(argv[1], argv[2]);
    int count = atoi(argv[3]), held = 0, refused = 0, fds[256];
    for (int n = 0; n < count && n < 256; n++) {
        int fd = socket(to.storage.ss_family, SOCK_STREAM, 0);
        if (!connect(fd, (void *)&to.storage, to.length)) fds[held++] = fd;
        else refused += errno == ECONNREFUSED;
    }
    printf("held=%d refused=%d\n", held, refused);
    char line[16], byte;
    while (fgets(line, sizeof line, stdin)) {
        int alive = 0;
        for (int n = 0; n < held; n++) {
            char last[5] = {0};
            if (write(fds[n], "ping\n", 5) != 5) continue;
            /* The backend's name comes first on a connection that was not asked before. */
            while (memcmp(last, "ping\n", 5) && read(fds[n], &byte, 1) == 1) {
                memmove(last, last + 1, 4);
                last[4] = byte;
            }
            alive += !memcmp(last, "ping\n", 5);
        }
        printf("alive=%d\n", alive);
    }
    return 0;
}
