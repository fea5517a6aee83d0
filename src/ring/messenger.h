// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

#include <liburing.h>

#include <cstdint>

namespace ringmx::ring {

// The user_data of a message on the reactor's side; odd, so that no operation has it.
inline constexpr std::uint64_t message_user_data = 1;

// Speaks to reactors from another thread (IORING_OP_MSG_RING): for control only, a few words in the
// life of a process. Belongs to the thread that makes it.
class Messenger {
 public:
  Messenger();  // throws std::system_error
  ~Messenger();
  Messenger(const Messenger&) = delete;
  Messenger& operator=(const Messenger&) = delete;

  // Delivers `message` to the reactor with this ring_fd(). 0 or -errno.
  int send(int ring_fd, unsigned message);

 private:
  io_uring ring_{};
};

}  // namespace ringmx::ring
