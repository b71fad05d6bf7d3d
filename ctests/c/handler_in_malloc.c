/* handler_in_malloc ADDRESS PORT: the first connect, getpeername and SO_ERROR of the process come from a signal handler
 * that interrupts malloc; a malloc inside that one would deadlock, and ends the program here with status 3. */
#include "address.h"
#include <fcntl.h>
#include <poll.h>
#include <signal.h>

static char heap[32 << 20] __attribute__((aligned(16)));
static size_t used;
static volatile int busy, calls;

static void *take(size_t size) {
    if (busy) {
        static const char text[] = "malloc inside malloc\n";
        if (write(1, text, sizeof text - 1) < 0) _exit(4);
        _exit(3);
    }
    size_t place = __atomic_fetch_add(&used, (size + 31) & ~15ul, __ATOMIC_RELAXED);
    if (place + size + 32 > sizeof heap) return NULL;
    *(size_t *)(heap + place) = size;
    return heap + place + 16;
}

void *malloc(size_t size) {
    void *place = take(size);
    if (calls == 1) {
        calls = 2;
        busy = 1;
        raise(SIGUSR1);
        busy = 0;
    }
    return place;
}
void *calloc(size_t count, size_t size) { return take(count * size); }
void *aligned_alloc(size_t alignment, size_t size) {
    char *place = take(size + alignment);
    return place + (alignment - (size_t)place % alignment) % alignment;
}
int posix_memalign(void **place, size_t alignment, size_t size) {
    return !(*place = aligned_alloc(alignment, size));
}
void free(void *place) {
    if (busy && place) _exit(5);
}
void *realloc(void *from, size_t size) {
    void *to = take(size);
    if (from && to) {
        size_t former = *(size_t *)((char *)from - 16);
        memcpy(to, from, former < size ? former : size);
    }
    return to;
}

static struct address to;
static int sockets[2], results[2], errors[2], so_error;

static void on_signal(int signal) {
    (void)signal;
    struct sockaddr_storage peer;
    socklen_t length = sizeof peer, size = sizeof so_error;
    for (int i = 0; i < 2; i++) {
        results[i] = connect(sockets[i], (void *)&to.storage, to.length);
        errors[i] = results[i] ? errno : 0;
        if (errors[i] == EINPROGRESS) {
            struct pollfd wait = {.fd = sockets[i], .events = POLLOUT};
            poll(&wait, 1, 5000);
            getsockopt(sockets[i], SOL_SOCKET, SO_ERROR, &so_error, &size);
        }
        getpeername(sockets[i], (void *)&peer, &length);
    }
}

int main(int argc, char **argv) {
    if (argc < 3) return 2;
    to = address_of(argv[1], argv[2]);
    sockets[0] = open_socket(&to, 0);
    sockets[1] = open_socket(&to, SOCK_NONBLOCK);
    signal(SIGUSR1, on_signal);
    calls = 1;
    void *volatile place = malloc(10); /* volatile: the compiler knows malloc and free */
    free(place);
    printf("blocking=%s nonblocking=%s so_error=%d\n", errors[0] ? strerrorname_np(errors[0]) : "OK",
           errors[1] ? strerrorname_np(errors[1]) : "OK", so_error);
    if (errors[0]) return 0;
    print_greeting(sockets[0]);
    print_peer("peer", sockets[0]);
    return 0;
}
