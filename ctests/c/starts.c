/* starts vfork|posix_spawn|emptied PROGRAM ARGUMENT...: starts a program by vfork and exec, by posix_spawn, or by fork
 * and exec with an empty environment; ends as it did. */
#define _GNU_SOURCE
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

int main(int argc, char **argv) {
    if (argc < 3) return 2;
    char *none[] = {NULL};
    pid_t child = -1;
    int status;
    if (!strcmp(argv[1], "vfork") && !(child = vfork())) {
        execv(argv[2], argv + 2);
        _exit(127);
    }
    if (!strcmp(argv[1], "emptied") && !(child = fork())) {
        execve(argv[2], argv + 2, none);
        _exit(127);
    }
    if (!strcmp(argv[1], "posix_spawn") && posix_spawn(&child, argv[2], NULL, NULL, argv + 2, environ)) return 1;
    return waitpid(child, &status, 0) == child ? WEXITSTATUS(status) : 1;
}
