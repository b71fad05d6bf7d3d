/* greeters: plays the endpoints of services, any number of them in one process and one thread, cheap enough for
 * tens of thousands of connections. Takes a command a line on standard input, answers each with "ok" or "ERRNO":
 *   listen NAME ADDRESS PORT   accept there, and greet each connection with NAME on a line
 *   refuse NAME                stop listening; connections that are open stay
 * A connection is kept until its client ends it. Ends with standard input. */
#include "address.h"
#include <signal.h>
#include <sys/epoll.h>

enum { MOST = 256, COMMANDS = MOST - 1, NAME_ROOM = 32, EVENTS = 64 };

struct greeter {
    char name[NAME_ROOM];
    size_t length;
    int listener;
};

static struct greeter greeters[MOST];
static int greeter_count, epoll;

/* The number that an event carries: a listener's greeter, COMMANDS, or MOST and a connection's descriptor. */
static int watch(int fd, uint64_t number) {
    struct epoll_event event = {.events = EPOLLIN | EPOLLRDHUP, .data.u64 = number};
    return epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
}

static struct greeter *named(const char *name) {
    for (int i = 0; i < greeter_count; i++)
        if (!strcmp(greeters[i].name, name)) return &greeters[i];
    if (greeter_count == COMMANDS || strlen(name) > NAME_ROOM - 2) exit(2);
    struct greeter *fresh = &greeters[greeter_count++];
    fresh->length = sprintf(fresh->name, "%s", name);
    fresh->listener = -1;
    return fresh;
}

static int listen_as(struct greeter *greeter, const char *ip, const char *port) {
    struct address at = address_of(ip, port);
    int on = 1, fd = open_socket(&at, SOCK_NONBLOCK | SOCK_CLOEXEC);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, (void *)&at.storage, at.length) || listen(fd, SOMAXCONN) || watch(fd, greeter - greeters)) {
        int error = errno;
        close(fd);
        return error;
    }
    greeter->listener = fd;
    return 0;
}

static int obey(const char *line) {
    char name[NAME_ROOM] = "", ip[64] = "", port[8] = "";
    if (sscanf(line, "listen %31s %63s %7s", name, ip, port) == 3) return listen_as(named(name), ip, port);
    if (sscanf(line, "refuse %31s", name) != 1) return EINVAL;
    struct greeter *greeter = named(name);
    if (greeter->listener < 0) return ENOENT;
    close(greeter->listener);
    greeter->listener = -1;
    return 0;
}

static void greet_all(struct greeter *greeter) {
    char line[NAME_ROOM + 1];
    int length = sprintf(line, "%s\n", greeter->name), fd;
    while ((fd = accept4(greeter->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0)
        if (write(fd, line, length) != length || watch(fd, MOST + (uint64_t)fd)) close(fd);
}

/* What a client says is of no interest, that it goes is. */
static void hear(int fd) {
    char words[256];
    ssize_t length = read(fd, words, sizeof words);
    if (length == 0 || (length < 0 && errno != EAGAIN)) close(fd);
}

int main(void) {
    struct epoll_event events[EVENTS];
    setvbuf(stdout, NULL, _IOLBF, 0);
    setvbuf(stdin, NULL, _IONBF, 0);
    signal(SIGPIPE, SIG_IGN);
    epoll = epoll_create1(EPOLL_CLOEXEC);
    if (epoll < 0 || watch(STDIN_FILENO, COMMANDS)) return 1;
    for (;;) {
        int count = epoll_wait(epoll, events, EVENTS, -1);
        for (int i = 0; i < count; i++) {
            uint64_t number = events[i].data.u64;
            char line[128];
            if (number >= MOST) hear((int)(number - MOST));
            else if (number < COMMANDS) greet_all(&greeters[number]);
            else if (!fgets(line, sizeof line, stdin)) return 0;
            else {
                int error = obey(line);
                puts(error ? error_name(error) : "ok");
            }
        }
    }
}
