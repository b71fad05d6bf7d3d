/* fast_open HOW ADDRESS PORT: opens a connection with its first data. HOW is sendto, sendmsg, syscall (sendto by
 * number), nonblocking (sendto, MSG_DONTWAIT), or deferred (TCP_FASTOPEN_CONNECT, connect, write).
 * Prints "open=N|ERRNO", "peer=", "backend=" and the echo of what was sent. */
#include "address.h"
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/syscall.h>

static const char data[] = "ping\n";

static ssize_t opened(const char *how, int fd, struct address *to) {
    struct iovec part = {(void *)data, 5};
    struct msghdr message = {.msg_name = &to->storage, .msg_namelen = to->length, .msg_iov = &part, .msg_iovlen = 1};
    int on = 1;
    if (!strcmp(how, "sendto"))
        return sendto(fd, data, 5, MSG_FASTOPEN, (void *)&to->storage, to->length);
    if (!strcmp(how, "sendmsg")) return sendmsg(fd, &message, MSG_FASTOPEN);
    if (!strcmp(how, "syscall"))
        return syscall(SYS_sendto, fd, data, 5, MSG_FASTOPEN, &to->storage, to->length);
    if (!strcmp(how, "nonblocking"))
        return sendto(fd, data, 5, MSG_FASTOPEN | MSG_DONTWAIT, (void *)&to->storage, to->length);
    if (setsockopt(fd, IPPROTO_TCP, TCP_FASTOPEN_CONNECT, &on, sizeof on)) return -1;
    if (connect(fd, (void *)&to->storage, to->length)) return -1;
    printf("connected=0\n");
    return write(fd, data, 5);
}

int main(int argc, char **argv) {
    if (argc < 4) return 2;
    struct address to = address_of(argv[2], argv[3]);
    int fd = open_socket(&to, 0);
    errno = 77;
    ssize_t sent = opened(argv[1], fd, &to);
    if (sent < 0 && errno == EINPROGRESS) {
        struct pollfd wait = {.fd = fd, .events = POLLOUT};
        printf("open=EINPROGRESS\n");
        if (poll(&wait, 1, 10000) != 1) return 1;
        sent = send(fd, data, 5, 0);
    }
    if (sent < 0) {
        printf("open=%s\n", strerrorname_np(errno));
        return 1;
    }
    printf("open=%zd errno=%d\n", sent, errno);
    print_greeting(fd);
    print_peer("peer", fd);
    char line[16] = {0};
    shutdown(fd, SHUT_WR);
    for (ssize_t used = 0, n; (n = read(fd, line + used, sizeof line - 1 - used)) > 0;) used += n;
    printf("echo=%s", line);
    return 0;
}
