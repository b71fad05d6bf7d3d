/* init_waits NAME [spawner]: PID 1 of a namespace that looks a name up, itself or (spawner) by a child,
 * and loops wait() until ECHILD. Prints "pid=N lookup=N children=N took_ms=N". */
#include "address.h"
#include <netdb.h>
#include <sys/wait.h>

static int lookup(const char *name) {
    struct addrinfo *list = NULL;
    int code = getaddrinfo(name, "80", NULL, &list);
    if (!code) freeaddrinfo(list);
    return code;
}

int main(int argc, char **argv) {
    if (argc < 2) return 2;
    int code = 0, children = 0;
    if (argc > 2) {
        pid_t child = fork();
        if (!child) _exit(lookup(argv[1]) != 0);
        int status;
        if (waitpid(child, &status, 0) != child) return 1;
        code = WEXITSTATUS(status);
    } else {
        code = lookup(argv[1]);
    }
    long start = now_ms();
    while (wait(NULL) > 0 || errno == EINTR) children++;
    printf("pid=%d lookup=%d children=%d took_ms=%ld\n", (int)getpid(), code, children,
           now_ms() - start);
    return errno != ECHILD;
}
