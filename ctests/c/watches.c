/* watches ADDRESS PORT: connects to an echo backend again and again, until standard input ends; for each change of who
 * answers, prints the wall clock in microseconds and the name, or the word for what failed. */
#include "address.h"
#include <fcntl.h>

int main(int argc, char **argv) {
    if (argc < 3) return 2;
    struct address to = address_of(argv[1], argv[2]);
    char last[64] = "", input;
    setvbuf(stdout, NULL, _IOLBF, 0);
    fcntl(0, F_SETFL, O_NONBLOCK);
    while (read(0, &input, 1)) {
        char name[64] = {0};
        int fd = open_socket(&to, 0);
        int failed = connect(fd, (void *)&to.storage, to.length);
        if (failed) strcpy(name, error_name(errno));
        size_t used = 0;
        while (!failed && used < 63 && read(fd, name + used, 1) == 1 && name[used] != '\n') used++;
        if (!failed) name[used] = 0;
        close(fd);
        struct timespec now;
        clock_gettime(CLOCK_REALTIME, &now);
        if (strcmp(name, last)) printf("%ld %s\n", now.tv_sec * 1000000 + now.tv_nsec / 1000, name);
        strcpy(last, name);
        usleep(500);
    }
    return 0;
}
