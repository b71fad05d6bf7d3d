/* A nameserver at 127.0.0.1 in a thread of the program: for a name whose first label is "elsewhere" the address
 * 192.0.2.9, for every name the text "dns", for others that there is no such name. Counts what it is asked. */
#ifndef NAMESERVER_H
#define NAMESERVER_H
#include "address.h"
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>

static atomic_int asked;

static void *nameserver(void *socket) {
    int fd = (int)(long)socket;
    unsigned char packet[1024];
    struct sockaddr_storage from;
    for (;;) {
        socklen_t length = sizeof from;
        ssize_t size = recvfrom(fd, packet, 512, 0, (void *)&from, &length);
        if (size < 17) continue;
        asked++;
        size_t end = 12;
        while (end < (size_t)size && packet[end]) end += packet[end] + 1;
        int type = packet[end + 1] << 8 | packet[end + 2];
        int known = !memcmp(packet + 12, "\x09" "elsewhere", 10);
        unsigned char *to = packet + end + 5;
        int records = type == 16 || (known && type == 1);
        static const unsigned char address[] = {0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 9, 0, 4, 192, 0, 2, 9};
        static const unsigned char text[] = {0xc0, 12, 0, 16, 0, 1, 0, 0, 0, 9, 0, 4, 3, 'd', 'n', 's'};
        if (records) memcpy(to, type == 16 ? text : address, 16), to += 16;
        packet[2] = 0x81, packet[3] = 0x80 | (known || records ? 0 : 3);
        memcpy(packet + 4, (unsigned char[]){0, 1, 0, records, 0, 0, 0, 0}, 8);
        sendto(fd, packet, to - packet, 0, (void *)&from, length);
    }
    return NULL;
}

static void start_nameserver(void) {
    struct address here = address_of("127.0.0.1", "53");
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    pthread_t thread;
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    if (bind(fd, (void *)&here.storage, here.length) ||
        pthread_create(&thread, NULL, nameserver, (void *)(long)fd)) {
        perror("nameserver");
        exit(1);
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}
#endif
