/* forks_from_leader NAME PORT COUNT: a lookup, which may start a leader in a thread of this process, and at once COUNT
 * children that look up and connect on their own; then one more that outlives this process, waits for the end of
 * standard input and visits once more. Prints per child "threads=N more=N child=" (more
 * descriptors than this process had at its start), at last "failed=N". */
#include "visit.h"
#include <dirent.h>
#include <sys/wait.h>

static int entries(const char *folder) {
    DIR *listing = opendir(folder);
    int count = -3; /* the listing's own descriptor, "." and ".." */
    while (listing && readdir(listing)) count++;
    closedir(listing);
    return count;
}

static int at_start;

static int child(char **argv) {
    char line[64];
    int more = entries("/proc/self/fd") - at_start, threads = entries("/proc/self/task") + 1;
    const char *outcome = visit(argv[1], argv[2], line);
    printf("threads=%d more=%d child=%s\n", threads, more, outcome);
    fflush(stdout);
    return outcome != line;
}

int main(int argc, char **argv) {
    if (argc < 4) return 2;
    at_start = entries("/proc/self/fd");
    struct addrinfo *list;
    int failed = getaddrinfo(argv[1], argv[2], NULL, &list) != 0, status;
    for (int i = atoi(argv[3]); i > 0; i--)
        if (!fork()) _exit(child(argv));
    while (wait(&status) > 0) failed += status != 0;
    printf("failed=%d\n", failed);
    fflush(stdout);
    if (fork()) _exit(failed);
    while (getchar() != EOF) continue;
    _exit(child(argv));
}
