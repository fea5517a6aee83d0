// SPDX-License-Identifier: GPL-3.0-or-later
// What liburing's configure would have found on Linux 6.1 headers or newer.
#ifndef LIBURING_COMPAT_H
#define LIBURING_COMPAT_H

#include <linux/ioctl.h>
#include <linux/openat2.h>
#include <linux/time_types.h>

#define UAPI_LINUX_IO_URING_H_SKIP_LINUX_TIME_TYPES_H 1

#ifndef BLOCK_URING_CMD_DISCARD  // <linux/blkdev.h>, since 6.12
#define BLOCK_URING_CMD_DISCARD _IO(0x12, 0)
#endif

#endif
