// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

#include <cassert>

namespace ringmx::ring {

// A piece of work that the kernel may hold for its owner: one accept, receive, send or connect.
//
// The owner embeds it and keeps it where it is until it is no longer pending(): its address is the
// user_data of the submission, so a completion always finds the object it belongs to, and there is
// nothing to look up, to number or to reuse too early. A multishot operation stays pending until
// its completion without IORING_CQE_F_MORE, whatever that completion's result says.
class Operation {
 public:
  // result, flags: cqe->res and cqe->flags. pending() is already false on the last one.
  using Handler = void (*)(Operation& operation, int result, unsigned flags);

  explicit Operation(Handler handler) noexcept : handler_(handler) {}
  ~Operation() { assert(!pending_ && "the kernel still holds this operation"); }
  Operation(const Operation&) = delete;
  Operation& operator=(const Operation&) = delete;

  [[nodiscard]] bool pending() const noexcept { return pending_; }

 private:
  friend class Reactor;
  Handler handler_;
  bool pending_ = false;
};

// An operation whose completions go to a member function: OperationOf<&Stream::on_receive> op{*this}.
template <auto Member>
class OperationOf;

template <class Owner, void (Owner::*Member)(int, unsigned)>
class OperationOf<Member> final : public Operation {
 public:
  explicit OperationOf(Owner& owner) noexcept : Operation(&complete), owner_(owner) {}

 private:
  static void complete(Operation& operation, int result, unsigned flags) {
    (static_cast<OperationOf&>(operation).owner_.*Member)(result, flags);
  }
  Owner& owner_;
};

}  // namespace ringmx::ring
