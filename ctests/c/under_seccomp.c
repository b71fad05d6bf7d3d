/* under_seccomp docker|old_docker PROGRAM ARGUMENT...: runs a program under the system calls that Docker's default
 * profile refuses to a container without capabilities (EPERM; clone3 ENOSYS); old_docker also refuses every call that is
 * newer than it (Linux 5.1 and later), as profiles of that time do.
 * under_seccomp no_netlink PROGRAM ARGUMENT...: the same without netlink sockets (EAFNOSUPPORT), as below systemd's
 * RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6.
 * under_seccomp killing ADDRESS PORT: connects to a service, then lets the kernel kill this process for any system
 * call but those that a network client makes anyhow, and connects again. Prints "before= after=". */
#include "visit.h"
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

static struct sock_filter program[256];
static unsigned short length;

static void add(unsigned short code, unsigned k, unsigned char yes, unsigned char no) {
    program[length++] = (struct sock_filter){code, yes, no, k};
}
static void load(size_t offset) { add(BPF_LD | BPF_W | BPF_ABS, offset, 0, 0); }
static void answer(unsigned how) { add(BPF_RET | BPF_K, how, 0, 0); }
/* For this call: the answer. */
static void on(unsigned call, unsigned how) {
    add(BPF_JMP | BPF_JEQ | BPF_K, call, 0, 1);
    answer(how);
}

static int install(void) {
    struct sock_fprog filter = {length, program};
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter);
}

#define REFUSE (SECCOMP_RET_ERRNO | EPERM)

/* What the profile's documentation names as blocked. */
static void docker(int old) {
    static const unsigned refused[] = {
        SYS_acct, SYS_add_key, SYS_bpf, SYS_clock_adjtime, SYS_clock_settime, SYS_delete_module, SYS_finit_module,
        SYS_fanotify_init, SYS_fsconfig, SYS_fsmount, SYS_fsopen, SYS_fspick, SYS_get_mempolicy, SYS_init_module,
        SYS_io_uring_enter, SYS_io_uring_register, SYS_io_uring_setup, SYS_kcmp, SYS_kexec_load, SYS_keyctl,
        SYS_lookup_dcookie, SYS_mbind, SYS_mount, SYS_move_mount, SYS_move_pages, SYS_name_to_handle_at,
        SYS_open_by_handle_at, SYS_open_tree, SYS_perf_event_open, SYS_personality, SYS_pivot_root,
        SYS_process_vm_readv, SYS_process_vm_writev, SYS_ptrace, SYS_quotactl, SYS_reboot, SYS_request_key,
        SYS_set_mempolicy, SYS_setdomainname, SYS_sethostname, SYS_setns, SYS_settimeofday, SYS_swapoff, SYS_swapon,
        SYS_syslog, SYS_umount2, SYS_unshare, SYS_userfaultfd, SYS_vhangup,
    };
    load(offsetof(struct seccomp_data, nr));
    on(SYS_clone3, SECCOMP_RET_ERRNO | ENOSYS);
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) on(refused[i], REFUSE);
    if (old) {
        add(BPF_JMP | BPF_JGE | BPF_K, SYS_open_tree, 0, 1);
        answer(REFUSE);
    }
    add(BPF_JMP | BPF_JEQ | BPF_K, SYS_clone, 0, 3);
    load(offsetof(struct seccomp_data, args));
    add(BPF_JMP | BPF_JSET | BPF_K,
        CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWCGROUP, 0, 1);
    answer(REFUSE);
    answer(SECCOMP_RET_ALLOW);
}

static void no_netlink(void) {
    load(offsetof(struct seccomp_data, nr));
    add(BPF_JMP | BPF_JEQ | BPF_K, SYS_socket, 0, 3);
    load(offsetof(struct seccomp_data, args));
    on(AF_NETLINK, SECCOMP_RET_ERRNO | EAFNOSUPPORT);
    answer(SECCOMP_RET_ALLOW);
}

/* A client's own calls, and what libc makes of them. */
static void killing(void) {
    static const unsigned allowed[] = {
        SYS_read, SYS_write, SYS_readv, SYS_writev, SYS_close, SYS_fstat, SYS_newfstatat, SYS_poll, SYS_ppoll,
        SYS_socket, SYS_connect, SYS_getsockopt, SYS_setsockopt, SYS_getsockname, SYS_getpeername, SYS_sendto,
        SYS_recvfrom, SYS_shutdown, SYS_fcntl, SYS_brk, SYS_mmap, SYS_munmap, SYS_mprotect, SYS_futex,
        SYS_clock_gettime, SYS_getpid, SYS_geteuid, SYS_rt_sigaction, SYS_rt_sigprocmask, SYS_rt_sigreturn,
        SYS_exit, SYS_exit_group,
    };
    load(offsetof(struct seccomp_data, nr));
    for (size_t i = 0; i < sizeof allowed / sizeof *allowed; i++) on(allowed[i], SECCOMP_RET_ALLOW);
    answer(SECCOMP_RET_KILL_PROCESS);
}

int main(int argc, char **argv) {
    if (argc < 4) return 2;
    if (strcmp(argv[1], "killing")) {
        if (!strcmp(argv[1], "no_netlink")) no_netlink();
        else docker(!strcmp(argv[1], "old_docker"));
        if (install()) return 1;
        execvp(argv[2], argv + 2);
        return 127;
    }
    char line[64], again[64];
    const char *before = visit(argv[2], argv[3], line), *after = again;
    struct address to = address_of(argv[2], argv[3]);
    killing();
    if (install()) return 1;
    for (int i = 0; i < 20 && after == again; i++) {
        int fd = open_socket(&to, 0);
        if (connect(fd, (void *)&to.storage, to.length)) after = strerrorname_np(errno);
        size_t used = 0;
        while (after == again && used < 63 && read(fd, again + used, 1) == 1 && again[used] != '\n') used++;
        again[used] = 0;
        close(fd);
    }
    printf("before=%s after=%s\n", before, after);
    return 0;
}
