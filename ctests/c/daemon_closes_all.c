/* daemon_closes_all ADDRESS PORT FILE: as old daemons start: connect once, fork, setsid, close every
 * descriptor from 0 up, open FILE as the first one, and connect again. FILE gets "first=N backend=". */
#include "address.h"
#include <fcntl.h>
#include <sys/wait.h>

int main(int argc, char **argv) {
    if (argc < 4) return 2;
    struct address to = address_of(argv[1], argv[2]);
    close(connected(&to));
    pid_t child = fork();
    if (child) {
        int status;
        return waitpid(child, &status, 0) != child || status;
    }
    setsid();
    for (int fd = 0; fd < 1024; fd++) close(fd);
    int first = open(argv[3], O_CREAT | O_WRONLY | O_TRUNC, 0644);
    FILE *out = fdopen(first, "w");
    if (!out) _exit(1);
    int fd = open_socket(&to, 0);
    if (connect(fd, (void *)&to.storage, to.length)) _exit(1);
    char line[64] = {0};
    if (read(fd, line, sizeof line - 1) < 1) _exit(1);
    fprintf(out, "first=%d socket=%d backend=%s", first, fd, line);
    exit(fclose(out));
}
