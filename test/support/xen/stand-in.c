/*
 * Stands in for the Xen libraries under the C xenstored (Xen 4.17), preloaded: event channels are a pipe, a guest's ring
 * is a page of memory, and a thread for each guest carries bytes between that ring and a socket `guest-DOMID` in the
 * run directory, where a test speaks as that guest.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define RING 1024
#define DOMAINS 64
#define FIRST_PORT 2

/* docs/misc/xenstore-ring.txt */
struct ring {
  char request[RING], response[RING];
  volatile uint32_t req_cons, req_prod, rsp_cons, rsp_prod;
  char rest[4096 - 2 * RING - 16];
};

struct guest {
  int id, listener, wake;
  struct ring *ring;
};

static struct guest guests[DOMAINS];
static int events[2];
static char some_handle;

static const char *in_run_directory(const char *name) {
  static __thread char path[256];
  snprintf(path, sizeof path, "%s/%s", getenv("XENSTORED_RUNDIR"), name);
  return path;
}

static int file_of(const char *name, const char *text, size_t size) {
  static int (*real)(const char *, int, ...);
  if (real == NULL) real = dlsym(RTLD_NEXT, "open");
  int fd = real(in_run_directory(name), O_RDWR | O_CREAT, 0600);
  if (ftruncate(fd, size) != 0 || pwrite(fd, text, strlen(text), 0) < 0) abort();
  return fd;
}

int open(const char *path, int flags, ...) {
  static int (*real)(const char *, int, ...);
  if (strcmp(path, "/proc/xen/xsd_port") == 0) return file_of("xsd_port", "1\n", 2);
  if (strcmp(path, "/proc/xen/xsd_kva") == 0) return file_of("xsd_kva", "", 4096);
  if (real == NULL) real = dlsym(RTLD_NEXT, "open");
  va_list rest;
  va_start(rest, flags);
  int mode = va_arg(rest, int);
  va_end(rest);
  return real(path, flags, mode);
}

static void send_event(const struct guest *guest) {
  uint32_t port = FIRST_PORT + guest->id;
  if (write(events[1], &port, sizeof port) != sizeof port) abort();
}

/* Puts what the guest says into the ring, gives back what is left. */
static size_t to_ring(struct ring *ring, const char *bytes, size_t length) {
  size_t done = 0;
  while (done < length && ring->req_prod - ring->req_cons < RING) {
    ring->request[ring->req_prod % RING] = bytes[done++];
    __sync_synchronize();
    ring->req_prod++;
  }
  return length - done;
}

static void *serve(void *argument) {
  struct guest *guest = argument;
  struct ring *ring = guest->ring;
  static __thread char waiting[RING], answer[RING];
  size_t left = 0;
  int client = -1;
  for (;;) {
    struct pollfd fds[3] = {{guest->wake, POLLIN, 0},
                            {client < 0 ? guest->listener : -1, POLLIN, 0},
                            {left == 0 ? client : -1, POLLIN, 0}};
    poll(fds, 3, -1);
    uint64_t count;
    if (fds[0].revents && read(guest->wake, &count, sizeof count) < 0) abort();
    if (fds[1].revents) client = accept(guest->listener, NULL, NULL);
    if (fds[2].revents) {
      ssize_t got = read(client, waiting, sizeof waiting);
      if (got <= 0) {
        close(client);
        client = -1;
      } else left = got;
    }
    size_t still = to_ring(ring, waiting, left);
    int moved = still != left;
    memmove(waiting, waiting + left - still, still);
    left = still;
    size_t length = 0;
    while (client >= 0 && ring->rsp_cons != ring->rsp_prod) {
      __sync_synchronize();
      answer[length++] = ring->response[ring->rsp_cons++ % RING];
      if (length == RING) break;
    }
    if (length > 0) {
      moved = 1;
      if (send(client, answer, length, MSG_NOSIGNAL) < 0) left = 0;
    }
    if (length == RING) eventfd_write(guest->wake, 1);
    if (moved) send_event(guest);
  }
  return NULL;
}

static void begin(int id) {
  struct guest *guest = &guests[id];
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  char name[32];
  pthread_t thread;
  snprintf(name, sizeof name, "guest-%d", id);
  const char *path = in_run_directory(name);
  if (strlen(path) >= sizeof address.sun_path) abort();
  strcpy(address.sun_path, path);
  guest->id = id;
  guest->wake = eventfd(0, EFD_CLOEXEC);
  guest->ring = aligned_alloc(4096, 4096);
  memset(guest->ring, 0, 4096);
  guest->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  unlink(address.sun_path);
  if (bind(guest->listener, (struct sockaddr *)&address, sizeof address) != 0 || listen(guest->listener, 8) != 0)
    abort();
  pthread_create(&thread, NULL, serve, guest);
}

void *xengnttab_map_grant_ref(void *handle, uint32_t id, uint32_t reference, int protection) {
  (void)handle, (void)reference, (void)protection;
  if (id >= DOMAINS) return NULL;
  if (guests[id].ring == NULL) begin(id);
  return guests[id].ring;
}

static void *open_events(void) {
  if (events[1] == 0 && pipe2(events, O_CLOEXEC) != 0) abort();
  return &some_handle;
}

void *xenevtchn_open(void *logger, unsigned flags) { (void)logger, (void)flags; return open_events(); }
void *xenevtchn_fdopen(void *logger, int fd, unsigned flags) { (void)logger, (void)fd, (void)flags; return open_events(); }
int xenevtchn_fd(void *handle) { (void)handle; return events[0]; }
int xenevtchn_bind_virq(void *handle, unsigned virq) { (void)handle, (void)virq; return 1; }
int xenevtchn_bind_interdomain(void *handle, uint32_t id, uint32_t port) { (void)handle, (void)port; return FIRST_PORT + id; }
int xenevtchn_unbind(void *handle, uint32_t port) { (void)handle, (void)port; return 0; }
int xenevtchn_unmask(void *handle, uint32_t port) { (void)handle, (void)port; return 0; }
int xenevtchn_close(void *handle) { (void)handle; return 0; }

int xenevtchn_notify(void *handle, uint32_t port) {
  (void)handle;
  if (port >= FIRST_PORT && port < FIRST_PORT + DOMAINS && guests[port - FIRST_PORT].ring != NULL)
    eventfd_write(guests[port - FIRST_PORT].wake, 1);
  return 0;
}

int xenevtchn_pending(void *handle) {
  (void)handle;
  uint32_t port;
  return read(events[0], &port, sizeof port) == sizeof port ? (int)port : -1;
}

void *xengnttab_open(void *logger, unsigned flags) { (void)logger, (void)flags; return &some_handle; }
int xengnttab_close(void *handle) { (void)handle; return 0; }
int xengnttab_set_max_grants(void *handle, uint32_t count) { (void)handle, (void)count; return 0; }
int xengnttab_unmap(void *handle, void *start, uint32_t count) { (void)handle, (void)start, (void)count; return 0; }
void *xc_interface_open(void *logger, void *dombuild, unsigned flags) { (void)logger, (void)dombuild, (void)flags; return &some_handle; }
int xc_interface_close(void *handle) { (void)handle; return 0; }

/* xc_dominfo_t: the domain's id comes first, its state behind the next word; all zero is alive. */
int xc_domain_getinfo(void *handle, uint32_t first, unsigned most, uint32_t *info) {
  (void)handle, (void)most;
  info[0] = first;
  info[2] = 0;
  return 1;
}
