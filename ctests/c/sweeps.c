/* sweeps NAME PORT loop|closefrom|close_range|cloexec|unshare|all: visits, sweeps the descriptors from 3 up (`all`:
 * as a daemon that forked twice, from 0 up, with FILE of a fifth argument as standard output), and visits again.
 * Prints "before= lowest=N after=", with the lowest free number after the sweep. */
#include "visit.h"
#include <fcntl.h>
#include <sys/wait.h>

#ifndef CLOSE_RANGE_UNSHARE
#define CLOSE_RANGE_UNSHARE 2
#define CLOSE_RANGE_CLOEXEC 4
#endif

static int daemonize(void) {
    int status;
    pid_t child = fork();
    if (child) return waitpid(child, &status, 0) == child && !status ? -1 : 1;
    setsid();
    if ((child = fork())) _exit(child < 0);
    return 0;
}

int main(int argc, char **argv) {
    if (argc < 4) return 2;
    const char *how = argv[3], *before, *after;
    char line[64], again[64];
    before = visit(argv[1], argv[2], line);
    if (!strcmp(how, "loop")) for (int fd = 3; fd < (int)sysconf(_SC_OPEN_MAX); fd++) close(fd);
    if (!strcmp(how, "closefrom")) closefrom(3);
    if (!strcmp(how, "close_range")) close_range(3, ~0U, 0);
    if (!strcmp(how, "cloexec")) close_range(3, ~0U, CLOSE_RANGE_CLOEXEC);
    if (!strcmp(how, "unshare")) close_range(3, ~0U, CLOSE_RANGE_UNSHARE);
    if (!strcmp(how, "all") && argc > 4) {
        int parent = daemonize();
        if (parent) return parent > 0;
        closefrom(0);
        /* Standard input stays closed until here, so that the file is not the first. */
        after = visit(argv[1], argv[2], again);
        int null = open("/dev/null", O_RDWR), out = open(argv[4], O_CREAT | O_WRONLY | O_TRUNC, 0644);
        if (null || out != 1) return 1;
    } else {
        after = visit(argv[1], argv[2], again);
    }
    int lowest = dup(0);
    printf("before=%s lowest=%d after=%s\n", before, lowest, after);
    return 0;
}
