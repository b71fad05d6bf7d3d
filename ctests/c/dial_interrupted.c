/* dial_interrupted ADDRESS PORT: a signal without SA_RESTART 200 ms into a blocking connect that
 * hangs ends it with EINTR. Prints "connect=ERRNO took_ms=N signals=N". */
#include "address.h"
#include <signal.h>
#include <sys/time.h>

static volatile sig_atomic_t signals;
static void count(int signal) { (void)signal, signals++; }

int main(int argc, char **argv) {
    if (argc < 3) return 2;
    struct address to = address_of(argv[1], argv[2]);
    int fd = open_socket(&to, 0);
    struct sigaction action = {.sa_handler = count};
    sigaction(SIGALRM, &action, NULL);
    struct itimerval timer = {.it_value = {.tv_usec = 200000}};
    setitimer(ITIMER_REAL, &timer, NULL);
    long start = now_ms();
    int error = connect(fd, (void *)&to.storage, to.length) ? errno : 0;
    printf("connect=%s took_ms=%ld signals=%d\n", error ? error_name(error) : "OK",
           now_ms() - start, (int)signals);
    return 0;
}
