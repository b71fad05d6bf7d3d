/* takes_turns ADDRESS PORT PROCESSES COUNT backend|client [nonblocking]: COUNT connections to an echo backend, one after
 * the other, by so many processes in turn. Each reads the backend's name; then the backend closes first, or the client
 * does. Prints "made=N refused=N failed=N longest_us=N mean_us=N fds=N" of all: how long connects took, and how many
 * descriptors the last process has in the end. */
#include "address.h"
#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/wait.h>

static struct counts {
    long left, made, refused, failed, longest_us, total_us, fds;
} *counts;

static long now_us(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static int dial(int fd, const struct address *to, int nonblocking) {
    if (nonblocking) fcntl(fd, F_SETFL, O_NONBLOCK);
    int error = connect(fd, (void *)&to->storage, to->length) ? errno : 0;
    if (!nonblocking) return error;
    struct pollfd ready = {.fd = fd, .events = POLLOUT};
    socklen_t length = sizeof error;
    if (error == EINPROGRESS && poll(&ready, 1, 5000) == 1) getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length);
    fcntl(fd, F_SETFL, 0);
    return error;
}

static void visit(const struct address *to, int backend_closes, int nonblocking) {
    char byte;
    int fd = socket(to->storage.ss_family, SOCK_STREAM, 0);
    long start = now_us();
    int error = dial(fd, to, nonblocking);
    long took = now_us() - start;
    counts->total_us += took;
    if (took > counts->longest_us) counts->longest_us = took;
    if (error) {
        ++*(error == ECONNREFUSED ? &counts->refused : &counts->failed);
    } else {
        while (read(fd, &byte, 1) == 1 && byte != '\n') {
        }
        if (backend_closes && write(fd, "quit\n", 5) == 5)
            while (read(fd, &byte, 1) > 0) {
            }
        counts->made++;
    }
    close(fd);
}

static long open_descriptors(void) {
    DIR *folder = opendir("/proc/self/fd");
    long count = -1;
    while (folder && readdir(folder)) count++;
    return count - 2;
}

int main(int argc, char **argv) {
    if (argc < 6) return 2;
    struct address to = address_of(argv[1], argv[2]);
    int turn[2], backend_closes = !strcmp(argv[5], "backend"), nonblocking = argc > 6;
    counts = mmap(NULL, sizeof *counts, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    counts->left = atol(argv[4]);
    if (pipe(turn) || write(turn[1], "x", 1) != 1) return 1;
    for (int n = atoi(argv[3]); n > 0; n--) {
        if (fork()) continue;
        /* Whoever has the byte has the turn. */
        for (char byte; read(turn[0], &byte, 1) == 1;) {
            int over = counts->left-- <= 0;
            if (!over) visit(&to, backend_closes, nonblocking);
            else counts->fds = open_descriptors();
            if (write(turn[1], &byte, 1) != 1 || over) break;
        }
        _exit(0);
    }
    while (wait(NULL) > 0) {
    }
    long all = counts->made + counts->refused + counts->failed;
    printf("made=%ld refused=%ld failed=%ld longest_us=%ld mean_us=%ld fds=%ld\n", counts->made, counts->refused,
           counts->failed, counts->longest_us, all ? counts->total_us / all : 0, counts->fds);
    return 0;
}
