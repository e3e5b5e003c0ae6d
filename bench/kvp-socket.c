/* Lets a daemon that opens /dev/vmbus/hv_kvp get descriptor 3 instead: a socket that keeps message borders. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdarg.h>
#include <string.h>
#include <sys/types.h>

static int is_device(const char *path) { return strcmp(path, "/dev/vmbus/hv_kvp") == 0; }

#define OPEN(name)                                                   \
	int name(const char *path, int flags, ...)                       \
	{                                                                \
		static int (*real)(const char *, int, ...);                  \
		va_list rest;                                                \
		va_start(rest, flags);                                       \
		mode_t mode = va_arg(rest, mode_t);                          \
		va_end(rest);                                                \
		if (is_device(path))                                         \
			return fcntl(3, F_DUPFD_CLOEXEC, 10);                    \
		if (!real)                                                   \
			real = (int (*)(const char *, int, ...))dlsym(RTLD_NEXT, #name); \
		return real(path, flags, mode);                              \
	}

OPEN(open)
OPEN(open64)
