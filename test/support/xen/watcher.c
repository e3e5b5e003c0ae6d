/*
 * A second follower beside ours, and the judge of both, on the C library alone: it keeps what its own watch of TOP told it,
 * and walks the tree itself when it is asked. A line "rest" on standard input is answered by both, each as lines "T path=hex"
 * (the tree) and "W path=hex" (by the watch), then ".". It ends when the daemon goes.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xenstore.h>

struct node {
  char *path;
  char *value;
  unsigned length;
};

static struct node *nodes;
static unsigned count, room;
static struct xs_handle *xs;

static void gone(void) {
  fflush(stdout);
  exit(0);
}

static void put(const char *path, char *value, unsigned length) {
  for (unsigned at = 0; at < count; at++)
    if (strcmp(nodes[at].path, path) == 0) {
      free(nodes[at].value);
      nodes[at].value = value;
      nodes[at].length = length;
      return;
    }
  if (count == room) nodes = realloc(nodes, (room = room ? 2 * room : 256) * sizeof *nodes);
  nodes[count++] = (struct node){strdup(path), value, length};
}

static int known(const char *path) {
  for (unsigned at = 0; at < count; at++)
    if (strcmp(nodes[at].path, path) == 0) return 1;
  return 0;
}

static void forget(const char *path) {
  size_t length = strlen(path);
  unsigned kept = 0;
  for (unsigned at = 0; at < count; at++) {
    struct node *node = &nodes[at];
    if (strncmp(node->path, path, length) == 0 && (node->path[length] == 0 || node->path[length] == '/')) {
      free(node->path);
      free(node->value);
    } else nodes[kept++] = *node;
  }
  count = kept;
}

static void show(char kind, const char *path, const char *value, unsigned length) {
  printf("%c %s=", kind, path);
  for (unsigned at = 0; at < length; at++) printf("%02x", (unsigned char)value[at]);
  putchar('\n');
}

/* Prints a tree, or puts it into the replica. */
static void walk(const char *path, char kind) {
  unsigned length, names;
  char *value = xs_read(xs, XBT_NULL, path, &length);
  if (value == NULL) {
    if (errno != ENOENT) gone();
    return;
  }
  if (kind == 'T') {
    show('T', path, value, length);
    free(value);
  } else put(path, value, length);
  char **list = xs_directory(xs, XBT_NULL, path, &names);
  if (list == NULL) {
    if (errno != ENOENT) gone();
    return;
  }
  for (unsigned at = 0; at < names; at++) {
    char child[4096];
    snprintf(child, sizeof child, "%s/%s", path, list[at]);
    walk(child, kind);
  }
  free(list);
}

/* Looks again at what an event names, and at what was made on the way to it. */
static void look(const char *top, const char *path) {
  char way[4096];
  snprintf(way, sizeof way, "%s", path);
  for (char *at = way + strlen(top); (at = strchr(at + 1, '/')) != NULL;) {
    *at = 0;
    unsigned length;
    if (!known(way)) {
      char *value = xs_read(xs, XBT_NULL, way, &length);
      if (value != NULL) put(way, value, length);
    }
    *at = '/';
  }
  if (strlen(path) > strlen(top) && !known(top)) {
    unsigned length;
    char *value = xs_read(xs, XBT_NULL, top, &length);
    if (value != NULL) put(top, value, length);
  }
  forget(path);
  walk(path, 'W');
}

static void events(const char *top) {
  char **event;
  while ((event = xs_check_watch(xs)) != NULL) {
    look(top, event[XS_WATCH_PATH]);
    free(event);
  }
  if (errno != EAGAIN) gone();
}

int main(int argc, char **argv) {
  if (argc != 2) return 2;
  const char *top = argv[1];
  xs = xs_open(0);
  if (xs == NULL || !xs_watch(xs, top, "t")) return 1;
  struct pollfd waiting[2] = {{.fd = xs_fileno(xs), .events = POLLIN}, {.fd = 0, .events = POLLIN}};
  puts("ready");
  fflush(stdout);
  for (;;) {
    if (poll(waiting, 2, -1) < 0) return 1;
    if (waiting[0].revents) events(top);
    if (!waiting[1].revents) continue;
    char line[16];
    if (fgets(line, sizeof line, stdin) == NULL) return 0;
    walk(top, 'T');
    /* The library's thread has read all that came before the walk's answers by now; before it, it may have been behind. */
    events(top);
    for (unsigned at = 0; at < count; at++) show('W', nodes[at].path, nodes[at].value, nodes[at].length);
    puts(".");
    fflush(stdout);
  }
}
