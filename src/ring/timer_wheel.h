// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <limits>

namespace ringmx::ring {

// Monotonic milliseconds.
using Time = std::chrono::time_point<std::chrono::steady_clock, std::chrono::milliseconds>;
using Duration = std::chrono::milliseconds;
inline constexpr Time never = Time::max();

// One deadline of its owner, embedded in it. Destroying it clears it.
class Timer {
 public:
  using Handler = void (*)(Timer& timer);
  explicit Timer(Handler handler) noexcept : handler_(handler) {}
  ~Timer() { unlink(); }
  Timer(const Timer&) = delete;
  Timer& operator=(const Timer&) = delete;
  [[nodiscard]] Time deadline() const noexcept { return deadline_; }

 private:
  friend class TimerWheel;
  void unlink() noexcept;
  Handler handler_;
  Timer* next_ = nullptr;
  Timer** link_ = nullptr;  // what points at this timer; null: not in the wheel
  Time deadline_ = never;
  std::int64_t due_tick_ = 0;  // the tick of the slot it sits in
};

template <auto Member>
class TimerOf;

template <class Owner, void (Owner::*Member)()>
class TimerOf<Member> final : public Timer {
 public:
  explicit TimerOf(Owner& owner) noexcept : Timer(&run), owner_(owner) {}

 private:
  static void run(Timer& timer) { (static_cast<TimerOf&>(timer).owner_.*Member)(); }
  Owner& owner_;
};

// All deadlines of one reactor: a hashed wheel. Deadlines move later all the time (every command
// starts a new one) and hardly ever fire, so moving one later only stores a number; the timer is
// put where it belongs when the hand comes by. Deadlines fire late by up to one tick, never early.
class TimerWheel {
 public:
  static constexpr Duration tick{64};

  explicit TimerWheel(Time now) noexcept : hand_(tick_of(now)) {}

  void set(Timer& timer, Time deadline) noexcept;
  void clear(Timer& timer) noexcept { timer.unlink(), timer.deadline_ = never; }

  // Fires all that is due. Handlers may set and clear any timer.
  void advance(Time now) noexcept;
  // The time by which advance() wants to be called; `never` if there is no timer.
  [[nodiscard]] Time next() const noexcept;

 private:
  static constexpr std::int64_t slots = 1024;  // one lap: 65 s
  static std::int64_t tick_of(Time t) noexcept { return t.time_since_epoch() / tick; }
  void insert(Timer& timer) noexcept;

  std::array<Timer*, slots> heads_{};
  std::array<std::uint64_t, slots / 64> occupied_{};  // a bit per slot; may be set for an empty one
  std::int64_t hand_;                                 // all ticks before this one have been handled
};

}  // namespace ringmx::ring
