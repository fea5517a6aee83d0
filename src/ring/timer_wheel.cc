// SPDX-License-Identifier: GPL-3.0-or-later
#include "ring/timer_wheel.h"

#include <algorithm>
#include <bit>

namespace ringmx::ring {

void Timer::unlink() noexcept {
  if (link_ == nullptr) return;
  *link_ = next_;
  if (next_ != nullptr) next_->link_ = link_;
  link_ = nullptr;
}

void TimerWheel::insert(Timer& timer) noexcept {
  // A deadline lies within its tick, so it is certain to be over when that tick is.
  timer.due_tick_ = std::clamp(tick_of(timer.deadline_) + 1, hand_, hand_ + slots - 1);
  const auto slot = static_cast<std::size_t>(timer.due_tick_ % slots);
  occupied_[slot / 64] |= std::uint64_t{1} << (slot % 64);
  Timer*& head = heads_[slot];
  timer.next_ = head;
  if (head != nullptr) head->link_ = &timer.next_;
  head = &timer;
  timer.link_ = &head;
}

void TimerWheel::set(Timer& timer, Time deadline) noexcept {
  timer.deadline_ = deadline;
  if (timer.link_ != nullptr) {
    if (tick_of(deadline) + 1 >= timer.due_tick_) return;  // moved later: found when the hand comes by
    timer.unlink();
  }
  if (deadline != never) insert(timer);
}

void TimerWheel::advance(Time now) noexcept {
  const std::int64_t current = tick_of(now);
  while (hand_ <= current) {
    // Detach the slot first: handlers may insert into it again.
    const auto slot = static_cast<std::size_t>(hand_ % slots);
    occupied_[slot / 64] &= ~(std::uint64_t{1} << (slot % 64));
    Timer* due = heads_[slot];
    heads_[slot] = nullptr;
    if (due != nullptr) due->link_ = &due;
    ++hand_;
    while (due != nullptr) {
      Timer& timer = *due;
      timer.unlink();
      if (timer.deadline_ == never) continue;
      if (timer.deadline_ > now) {
        insert(timer);
      } else {
        timer.deadline_ = never;
        timer.handler_(timer);
      }
    }
  }
}

Time TimerWheel::next() const noexcept {
  const auto from = static_cast<std::size_t>(hand_ % slots);
  for (std::size_t i = 0; i <= occupied_.size(); ++i) {  // the first word twice: its high, then its low bits
    const std::size_t word = (from / 64 + i) % occupied_.size();
    std::uint64_t bits = occupied_[word];
    if (i == 0) bits &= ~std::uint64_t{0} << (from % 64);
    if (bits == 0) continue;
    const std::size_t slot = word * 64 + static_cast<std::size_t>(std::countr_zero(bits));
    const std::size_t distance = (slot + slots - from) % slots;
    return Time(tick * (hand_ + static_cast<std::int64_t>(distance)));
  }
  return never;
}

}  // namespace ringmx::ring
