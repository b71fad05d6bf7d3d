/* stack_use ADDRESS PORT: how much stack each call takes in a thread of its own, painted before. Prints "CALL=BYTES" in
 * the order of the calls; the first connect attaches. */
#include "address.h"
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#define STACK (256 << 10)
static struct address mesh, loopback;
static int fd;

static void pass(void) { connect(fd, (void *)&loopback.storage, loopback.length); }
static void dial(void) { connect(fd, (void *)&mesh.storage, mesh.length); }
static void by_number(void) { syscall(SYS_connect, fd, &mesh.storage, mesh.length); }
static void send_open(void) { sendto(fd, "x", 1, MSG_FASTOPEN, (void *)&mesh.storage, mesh.length); }
static void send_plain(void) { sendto(fd, "x", 1, MSG_NOSIGNAL, NULL, 0); }
static void peer(void) {
    struct sockaddr_storage storage;
    socklen_t length = sizeof storage;
    getpeername(fd, (void *)&storage, &length);
}
static void error(void) {
    int value;
    socklen_t length = sizeof value;
    getsockopt(fd, SOL_SOCKET, SO_ERROR, &value, &length);
}
static void nothing(void) {}

static void *run(void *call) {
    ((void (*)(void))call)();
    return NULL;
}

static size_t used(void (*call)(void)) {
    unsigned char *stack =
        mmap(NULL, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memset(stack, 0xa5, STACK);
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstack(&attributes, stack, STACK);
    pthread_t thread;
    if (pthread_create(&thread, &attributes, run, (void *)call)) exit(1);
    pthread_join(thread, NULL);
    size_t clean = 0;
    while (clean < STACK && stack[clean] == 0xa5) clean++;
    return STACK - clean;
}

static void measure(const char *name, void (*call)(void), int kind, int keep) {
    static size_t floor;
    if (!floor) floor = used(nothing);
    if (!keep) {
        if (fd) close(fd);
        fd = socket(AF_INET, SOCK_STREAM | kind, 0);
    }
    printf("%s=%zd\n", name, used(call) - floor);
}

int main(int argc, char **argv) {
    if (argc < 3) return 2;
    mesh = address_of(argv[1], argv[2]);
    loopback = address_of("127.0.0.1", "9");
    measure("pass", pass, 0, 0);
    measure("attach", dial, 0, 0);
    measure("peer", peer, 0, 1);
    measure("send", send_plain, 0, 1);
    measure("connect", dial, 0, 0);
    measure("by_number", by_number, 0, 0);
    measure("fast_open", send_open, 0, 0);
    measure("nonblocking", dial, SOCK_NONBLOCK, 0);
    struct pollfd wait = {.fd = fd, .events = POLLOUT};
    poll(&wait, 1, 1000);
    measure("so_error", error, 0, 1);
    return 0;
}
