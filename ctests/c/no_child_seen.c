/* no_child_seen NAME: a lookup (which may spawn the agent) shows the host no SIGCHLD, no status from
 * wait, no descriptor and no change of signal mask, working directory or umask.
 * Prints "lookup=N sigchld=N wait=ERRNO fds_before=N fds_after=N mask=same|changed". */
#include "address.h"
#include <dirent.h>
#include <netdb.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>

static volatile sig_atomic_t children;
static void count(int signal) { (void)signal, children++; }

static int descriptors(void) {
    DIR *folder = opendir("/proc/self/fd");
    int open = 0;
    while (readdir(folder)) open++;
    closedir(folder);
    return open;
}

int main(int argc, char **argv) {
    if (argc < 2) return 2;
    struct sigaction action = {.sa_handler = count, .sa_flags = SA_RESTART};
    sigaction(SIGCHLD, &action, NULL);
    /* The kernel and sigemptyset fill less than the whole set, so the rest must be zero from the start. */
    static sigset_t before, after;
    sigprocmask(SIG_BLOCK, NULL, &before);
    umask(027);
    int fds_before = descriptors();
    struct addrinfo *list = NULL;
    int code = getaddrinfo(argv[1], "80", NULL, &list);
    if (!code) freeaddrinfo(list);
    int fds_after = descriptors();
    sigprocmask(SIG_BLOCK, NULL, &after);
    /* Every kind of child, clone children too: none is ours to see without __WCLONE. */
    pid_t waited = waitpid(-1, NULL, 0);
    printf("lookup=%d sigchld=%d wait=%s fds_before=%d fds_after=%d mask=%s umask=%03o\n", code,
           (int)children, waited < 0 ? error_name(errno) : "child", fds_before, fds_after,
           memcmp(&before, &after, sizeof before) ? "changed" : "same", umask(027));
    return 0;
}
