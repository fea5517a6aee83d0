// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

namespace ringmx::ring {

// Something to do once at the end of the running batch of completions, however often it was asked
// for: flush what the batch queued for a socket in one send; delete an object that is still on the
// call stack. Caller-owned and intrusive; scheduling costs two stores.
class Deferred {
 public:
  using Handler = void (*)(Deferred& deferred);
  explicit Deferred(Handler handler) noexcept : handler_(handler) {}
  Deferred(const Deferred&) = delete;
  Deferred& operator=(const Deferred&) = delete;
  [[nodiscard]] bool scheduled() const noexcept { return scheduled_; }

 private:
  friend class Reactor;
  Handler handler_;
  Deferred* next_ = nullptr;
  bool scheduled_ = false;
};

template <auto Member>
class DeferredOf;

template <class Owner, void (Owner::*Member)()>
class DeferredOf<Member> final : public Deferred {
 public:
  explicit DeferredOf(Owner& owner) noexcept : Deferred(&run), owner_(owner) {}

 private:
  static void run(Deferred& deferred) { (static_cast<DeferredOf&>(deferred).owner_.*Member)(); }
  Owner& owner_;
};

}  // namespace ringmx::ring
