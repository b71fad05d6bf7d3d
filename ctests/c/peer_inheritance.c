/* peer_inheritance ADDRESS PORT: what getpeername says after dup, fork, descriptor passing and exec.
 * Prints "peer=", "dup=", "fork=", "passed=", "exec=". */
#include "address.h"
#include <sys/wait.h>

static int send_fd(int channel, int fd) {
    char byte = 'x', space[CMSG_SPACE(sizeof fd)] = {0};
    struct iovec data = {&byte, 1};
    struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1, .msg_control = space,
                             .msg_controllen = sizeof space};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET, header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof fd);
    memcpy(CMSG_DATA(header), &fd, sizeof fd);
    return sendmsg(channel, &message, 0) == 1 ? 0 : -1;
}

static int receive_fd(int channel) {
    int fd = -1;
    char byte, space[CMSG_SPACE(sizeof fd)];
    struct iovec data = {&byte, 1};
    struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1, .msg_control = space,
                             .msg_controllen = sizeof space};
    if (recvmsg(channel, &message, 0) != 1 || !CMSG_FIRSTHDR(&message)) return -1;
    memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof fd);
    return fd;
}

static void wait_for(pid_t child) {
    int status;
    if (waitpid(child, &status, 0) != child || status) exit(1);
}

int main(int argc, char **argv) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (argc == 3 && !strcmp(argv[1], "--peer")) {
        print_peer("exec", atoi(argv[2]));
        return 0;
    }
    if (argc < 3) return 2;
    struct address to = address_of(argv[1], argv[2]);
    int channel[2];
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, channel)) return 1;
    /* The receiver is forked before the connection exists. */
    pid_t receiver = fork();
    if (!receiver) {
        print_peer("passed", receive_fd(channel[1]));
        _exit(0);
    }
    int fd = connected(&to);
    print_peer("peer", fd);
    print_peer("dup", dup(fd));
    pid_t child = fork();
    if (!child) {
        print_peer("fork", fd);
        _exit(0);
    }
    wait_for(child);
    if (send_fd(channel[0], fd)) return 1;
    wait_for(receiver);
    char number[16];
    snprintf(number, sizeof number, "%d", fd);
    execl("/proc/self/exe", argv[0], "--peer", number, (char *)NULL);
    return 1;
}
