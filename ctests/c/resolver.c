/* resolver FUNCTION NAME TYPE [SIZE [CLASS]]: res_query and its kin (query, search, nquery, nsearch, querydomain,
 * nquerydomain, send, nsend), and with "old-" before it the name that binaries built before glibc 2.34 ask for. For
 * querydomain the NAME is split at its first dot. SIZE is that of the answer's room. Prints "length=N error=N
 * state=N asked=N" (h_errno, that of the state, what the nameserver was asked) and the answer:
 * "header=HEX question=NAME", then a "record=TYPE:VALUE" each. */
#include "nameserver.h"
#include <arpa/nameser.h>
#include <netdb.h>
#include <resolv.h>

typedef unsigned char byte;
/* Bound by the linker as such binaries were. */
#define OLD(name, ...)                                    \
    extern int old_##name(__VA_ARGS__);                   \
    __asm__(".symver old_" #name ", __" #name "@GLIBC_2.2.5")
OLD(res_query, const char *, int, int, byte *, int);
OLD(res_search, const char *, int, int, byte *, int);
OLD(res_nquery, res_state, const char *, int, int, byte *, int);
OLD(res_nsearch, res_state, const char *, int, int, byte *, int);
OLD(res_querydomain, const char *, const char *, int, int, byte *, int);
OLD(res_nquerydomain, res_state, const char *, const char *, int, int, byte *, int);
OLD(res_send, const byte *, int, byte *, int);
OLD(res_nsend, res_state, const byte *, int, byte *, int);

static const struct { const char *name; int number; } types[] = {
    {"A", 1}, {"PTR", 12}, {"TXT", 16}, {"AAAA", 28}, {"SRV", 33}, {"ANY", 255},
};

static void print_record(const byte *answer, const byte *end, const byte *at) {
    char text[NS_MAXDNAME] = "?";
    int type = at[0] << 8 | at[1];
    const byte *data = at + 10;
    if (type == 1) inet_ntop(AF_INET, data, text, sizeof text);
    if (type == 28) inet_ntop(AF_INET6, data, text, sizeof text);
    if (type == 12) dn_expand(answer, end, data, text, sizeof text);
    if (type == 16) snprintf(text, sizeof text, "%.*s", data[0], data + 1);
    printf("record=%d:%s ttl=%d\n", type, text, at[7]);
}

static void print_answer(const byte *answer, int length) {
    const byte *end = answer + length, *at = answer + 12;
    char text[NS_MAXDNAME];
    printf("header=");
    /* The id is random. */
    for (int i = 2; i < 12; i++) printf("%02x", answer[i]);
    int used = dn_expand(answer, end, at, text, sizeof text);
    printf(" question=%s\n", used < 0 ? "?" : text);
    if (used < 0) return;
    at += used + 4;
    for (int left = answer[6] << 8 | answer[7]; left && at < end; left--) {
        at += dn_skipname(at, end);
        print_record(answer, end, at);
        at += 10 + (at[8] << 8 | at[9]);
    }
}

int main(int argc, char **argv) {
    if (argc < 4) return 2;
    const char *function = argv[1], *name = argv[2];
    int old = !strncmp(function, "old-", 4), type = 0, length = -2;
    if (old) function += 4;
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (!strcmp(argv[3], types[i].name)) type = types[i].number;
    int size = argc > 4 ? atoi(argv[4]) : 1024, class = argc > 5 ? atoi(argv[5]) : C_IN;
    start_nameserver();
    byte answer[2048], packet[512];
    memset(answer, 0xee, sizeof answer);
    static struct __res_state state;
    res_ninit(&state);
    char *domain = strchr(name, '.'), first[256] = "";
    if (domain) snprintf(first, sizeof first, "%.*s", (int)(domain++ - name), name);
    int made = res_mkquery(QUERY, name, class, type, NULL, 0, NULL, packet, sizeof packet);
    h_errno = 0;
#define CALL(name, ...) \
    if (!strcmp(function, #name)) length = old ? old_res_##name(__VA_ARGS__) : res_##name(__VA_ARGS__)
    CALL(query, name, class, type, answer, size);
    CALL(search, name, class, type, answer, size);
    CALL(nquery, &state, name, class, type, answer, size);
    CALL(nsearch, &state, name, class, type, answer, size);
    CALL(querydomain, first, domain, class, type, answer, size);
    CALL(nquerydomain, &state, first, domain, class, type, answer, size);
    CALL(send, packet, made, answer, size);
    CALL(nsend, &state, packet, made, answer, size);
    if (length == -2) return 2;
    int error = h_errno;
    printf("length=%d error=%d state=%d asked=%d\n", length, error, state.res_h_errno, asked);
    /* libc itself writes a header to whatever room. */
    for (size_t i = size < 12 ? 12 : size; i < sizeof answer; i++)
        if (answer[i] != 0xee) return fprintf(stderr, "written past the room\n"), 1;
    if (length > 12) print_answer(answer, length < size ? length : size);
    return 0;
}
