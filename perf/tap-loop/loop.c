/* The smallest possible switch between pairs of TAPs, in network namespaces: one thread that reads a frame
 * of the one and writes it to the other. What it reaches is the limit of anybody who reads and writes TAPs;
 * tap-loop.sh measures it beside a bridge. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

static void die(const char *what) {
    perror(what);
    exit(1);
}

/* A TAP named eth0 in that namespace, with vnet headers and all offloads, as Ringway's. */
static int tap(const char *namespace) {
    int own = open("/proc/self/ns/net", O_RDONLY), other = open(namespace, O_RDONLY);
    if (own < 0 || other < 0 || setns(other, CLONE_NEWNET)) die(namespace);
    int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK);
    struct ifreq request;
    memset(&request, 0, sizeof request);
    strcpy(request.ifr_name, "eth0");
    request.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;
    if (fd < 0 || ioctl(fd, TUNSETIFF, &request)) die("TUNSETIFF");
    int size = 10;
    if (ioctl(fd, TUNSETVNETHDRSZ, &size)) die("TUNSETVNETHDRSZ");
    if (ioctl(fd, TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN)) die("TUNSETOFFLOAD");
    if (setns(own, CLONE_NEWNET)) die("setns");
    close(own);
    close(other);
    return fd;
}

enum { MOST = 8 };

int main(int count, char **arguments) {
    static char frame[70000];
    int n = count - 1, taps[MOST];
    if (n < 2 || n > MOST || n % 2) {
        fprintf(stderr, "usage: loop NAMESPACE NAMESPACE [NAMESPACE NAMESPACE ...]   (paths, at most %d)\n", MOST);
        return 2;
    }
    struct pollfd all[MOST];
    for (int i = 0; i < n; i++) {
        taps[i] = tap(arguments[1 + i]);
        all[i] = (struct pollfd){taps[i], POLLIN, 0};
    }
    for (;;) {
        int any = 0;
        for (int i = 0; i < n; i++)
            for (int k = 0; k < 16; k++) {
                long len = read(taps[i], frame, sizeof frame);
                if (len <= 0) break;
                any = 1;
                /* A full queue drops, as any switch does. */
                if (write(taps[i ^ 1], frame, len) < 0) continue;
            }
        if (!any) poll(all, n, -1);
    }
}
