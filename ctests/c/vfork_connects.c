/* vfork_connects ADDRESS PORT UID: a child of vfork becomes another user and connects; the parent then goes on as it
 * was. Prints what each reached, and the parent's threads. */
#include "address.h"
#include <sys/syscall.h>
#include <sys/wait.h>

static struct address to;

static int dial(void) {
    int fd = socket(to.storage.ss_family, SOCK_STREAM, 0);
    int error = connect(fd, (void *)&to.storage, to.length) ? errno : 0;
    close(fd);
    return error;
}

static int threads(void) {
    char line[128];
    int count = -1;
    FILE *status = fopen("/proc/self/status", "r");
    while (fgets(line, sizeof line, status)) sscanf(line, "Threads: %d", &count);
    fclose(status);
    return count;
}

int main(int argc, char **argv) {
    if (argc < 4) return 2;
    to = address_of(argv[1], argv[2]);
    long uid = atoi(argv[3]);
    int first = atoi(argv[3]) == 0 ? dial() : 0; /* attached before, or not */
    volatile int child_error = -1;
    struct timespec over_a_second = {1, 100000000};
    pid_t pid = vfork();
    if (!pid) {
        if (uid) {
            /* The raw call: this thread of the child alone. */
            syscall(SYS_setresuid, uid, uid, uid);
        }
        nanosleep(&over_a_second, NULL);
        child_error = dial();
        _exit(0);
    }
    int status = -1;
    waitpid(pid, &status, 0);
    printf("first=%d child=%d status=%d threads=%d\n", first, child_error, status, threads());
    int fd = connected(&to);
    print_greeting(fd);
    print_peer("peer", fd);
    return 0;
}
