/* changes_itself CHANGE ADDRESS PORT: connects to a service, makes a change to its own process, and connects again;
 * with CHANGE as "early:CHANGE" nothing is done before the change. The changes are in the table below, some with an
 * argument as in "setuid=1234". Prints "before= change=OK|ERRNO after=". */
#include "visit.h"
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>

static int limit(int what, const char *to) {
    struct rlimit limit = {strtoul(to, NULL, 10), strtoul(to, NULL, 10)};
    return setrlimit(what, &limit);
}
static int change_setuid(const char *to) { return setgroups(0, NULL) || setgid(atoi(to)) || setuid(atoi(to)); }
static int change_setgid(const char *to) { return setgid(atoi(to)); }
static int change_seteuid(const char *to) { return seteuid(atoi(to)); }
static int change_root(const char *to) { return chroot(to) || chdir("/"); }
static int change_nofile(const char *to) { return limit(RLIMIT_NOFILE, to); }
static int change_nproc(const char *to) { return limit(RLIMIT_NPROC, to); }
static int change_fsize(const char *to) { return limit(RLIMIT_FSIZE, to); }
static int change_core(const char *to) { return limit(RLIMIT_CORE, to); }
static int change_memlock(const char *to) { return limit(RLIMIT_MEMLOCK, to); }
static int change_dumpable(const char *to) { return prctl(PR_SET_DUMPABLE, atoi(to)); }
static int change_subreaper(const char *to) { return prctl(PR_SET_CHILD_SUBREAPER, atoi(to)); }
static int change_no_new_privs(const char *to) { return prctl(PR_SET_NO_NEW_PRIVS, atoi(to), 0, 0, 0); }
static int change_newuser(const char *to) { return (void)to, unshare(CLONE_NEWUSER); }
static int change_newnet(const char *to) { return (void)to, unshare(CLONE_NEWNET); }
static int change_newns(const char *to) { return (void)to, unshare(CLONE_NEWNS); }
static int change_setns(const char *to) {
    int fd = open(to, O_RDONLY | O_CLOEXEC), result = setns(fd, 0);
    return close(fd), result;
}
static int change_capabilities(const char *to) {
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct none[2] = {0};
    return (void)to, syscall(SYS_capset, &header, none);
}

static const struct { const char *name; int (*change)(const char *); } changes[] = {
    {"setuid", change_setuid}, {"setgid", change_setgid}, {"seteuid", change_seteuid}, {"chroot", change_root},
    {"nofile", change_nofile}, {"nproc", change_nproc}, {"fsize", change_fsize}, {"core", change_core},
    {"memlock", change_memlock}, {"dumpable", change_dumpable}, {"subreaper", change_subreaper},
    {"no_new_privs", change_no_new_privs}, {"newuser", change_newuser}, {"newnet", change_newnet},
    {"newns", change_newns}, {"setns", change_setns}, {"capabilities", change_capabilities},
};

/* One "name=argument,..." after another. */
static const char *change(char *list) {
    for (char *one; (one = strsep(&list, ","));) {
        char *name = strsep(&one, "=");
        size_t at = 0;
        while (at < sizeof changes / sizeof *changes && strcmp(changes[at].name, name)) at++;
        if (at == sizeof changes / sizeof *changes) exit(2);
        if (changes[at].change(one ? one : "0")) return strerrorname_np(errno);
    }
    return "OK";
}

int main(int argc, char **argv) {
    if (argc < 4) return 2;
    char line[64], again[64];
    int early = !strncmp(argv[1], "early:", 6);
    const char *before = early ? "-" : visit(argv[2], argv[3], line);
    const char *done = change(argv[1] + 6 * early);
    /* The user is looked at once a second. */
    usleep(1100 * 1000);
    const char *after = visit(argv[2], argv[3], again);
    printf("before=%s change=%s after=%s\n", before, done, after);
    return 0;
}
