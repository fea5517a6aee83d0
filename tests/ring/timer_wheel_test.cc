// SPDX-License-Identifier: GPL-3.0-or-later
#include "ring/timer_wheel.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <vector>

namespace ringmx::ring {
namespace {

using namespace std::literals;

constexpr Duration tick = TimerWheel::tick;
constexpr Duration lap = 1024 * tick;

Time at(Duration since_epoch) {
  return Time(since_epoch);
}

// The end of the tick that `t` lies in.
Time end_of_tick(Time t) {
  return at((t.time_since_epoch() / tick + 1) * tick);
}

struct Alarm {
  void fire() {
    ++count;
    fired();
  }

  std::function<void()> fired = [] {};
  int count = 0;
  TimerOf<&Alarm::fire> timer{*this};
};

// Advances as a reactor does, but never beyond `until`: to each time that the wheel asks for.
void run(TimerWheel& wheel, Time& now, Time until) {
  while (wheel.next() <= until) {
    now = std::max(now, wheel.next());
    wheel.advance(now);
  }
  now = until;
  wheel.advance(now);
}

TEST(TimerWheel, NeverEarlyAndAtMostOneTickLate) {
  // Every phase of the clock and of the deadline within their ticks, near deadlines and far ones.
  for (Duration start = 100 * lap; start < 100 * lap + tick; ++start) {
    for (const Duration base : {0ms, tick, 10 * tick, lap - tick, lap, 3 * lap}) {
      for (Duration phase = 0ms; phase <= tick; phase += 7ms) {
        const Time deadline = at(start) + base + phase;
        Time now = at(start);
        TimerWheel wheel(now);
        Alarm alarm;
        alarm.fired = [&] {
          EXPECT_GE(now, deadline);
          EXPECT_LE(now - deadline, tick);
        };
        wheel.set(alarm.timer, deadline);
        EXPECT_EQ(alarm.timer.deadline(), deadline);
        run(wheel, now, deadline + tick);
        ASSERT_EQ(alarm.count, 1);
        ASSERT_EQ(alarm.timer.deadline(), never);
        run(wheel, now, now + 2 * lap);
        ASSERT_EQ(alarm.count, 1);
        ASSERT_EQ(wheel.next(), never);
      }
    }
  }
}

TEST(TimerWheel, DeadlineInThePastFiresWithTheNextTick) {
  Time now = at(1000 * tick + 5ms);
  TimerWheel wheel(now);
  wheel.advance(now);
  Alarm alarm;
  wheel.set(alarm.timer, now - 2 * lap);
  wheel.advance(now);
  EXPECT_EQ(alarm.count, 0);
  EXPECT_EQ(wheel.next(), end_of_tick(now));
  run(wheel, now, end_of_tick(now));
  EXPECT_EQ(alarm.count, 1);
}

TEST(TimerWheel, MovingLater) {
  Time now = at(lap);
  TimerWheel wheel(now);
  Alarm alarm;
  Time deadline = now + 100ms;
  wheel.set(alarm.timer, deadline);
  for (int i = 0; i < 1000; ++i) {
    run(wheel, now, now + 90ms);
    ASSERT_EQ(alarm.count, 0);
    deadline = now + 100ms;
    wheel.set(alarm.timer, deadline);
  }
  run(wheel, now, deadline - 1ms);
  EXPECT_EQ(alarm.count, 0);
  run(wheel, now, deadline + tick);
  EXPECT_EQ(alarm.count, 1);
}

TEST(TimerWheel, MovingEarlier) {
  for (const Duration first : {3 * lap, lap - 1ms, 10 * tick, tick + 1ms}) {
    for (const Duration second : {5 * tick, tick, 1ms, 0ms}) {
      Time now = at(lap + 3ms);
      TimerWheel wheel(now);
      Alarm alarm;
      wheel.set(alarm.timer, now + first);
      const Time deadline = now + second;
      wheel.set(alarm.timer, deadline);
      run(wheel, now, deadline - 1ms);
      EXPECT_EQ(alarm.count, 0);
      run(wheel, now, deadline + tick);
      EXPECT_EQ(alarm.count, 1);
      run(wheel, now, now + 4 * lap);
      EXPECT_EQ(alarm.count, 1);
    }
  }
}

TEST(TimerWheel, ClearedNeverFires) {
  Time now = at(lap);
  TimerWheel wheel(now);
  Alarm cleared;
  Alarm to_never;
  Alarm unset;
  wheel.set(cleared.timer, now + 10 * tick);
  wheel.set(to_never.timer, now + 10 * tick);
  wheel.clear(cleared.timer);
  wheel.set(to_never.timer, never);
  wheel.clear(unset.timer);
  wheel.set(unset.timer, never);
  EXPECT_EQ(cleared.timer.deadline(), never);
  EXPECT_EQ(to_never.timer.deadline(), never);
  run(wheel, now, now + 2 * lap);
  EXPECT_EQ(cleared.count + to_never.count + unset.count, 0);
  EXPECT_EQ(wheel.next(), never);
  // They can be used again.
  for (Alarm* alarm : {&cleared, &to_never, &unset}) wheel.set(alarm->timer, now + 1ms);
  run(wheel, now, now + 2 * tick);
  for (const Alarm* alarm : {&cleared, &to_never, &unset}) EXPECT_EQ(alarm->count, 1);
}

// Whoever of a slot comes first clears, moves or destroys the others of its slot and of the next.
TEST(TimerWheel, HandlersDisposeOfOtherTimers) {
  enum class Deed { clear, later, destroy };
  for (const Deed deed : {Deed::clear, Deed::later, Deed::destroy}) {
    for (const std::size_t own : {0U, 1U, 2U, 3U, 4U}) {  // who of the five acts
      Time now = at(lap);
      TimerWheel wheel(now);
      std::array<std::unique_ptr<Alarm>, 5> alarms;
      std::array<bool, 5> disposed{};
      int fired = 0;
      for (std::size_t i = 0; i < alarms.size(); ++i) {
        alarms[i] = std::make_unique<Alarm>();
        alarms[i]->fired = [&, i] {
          ++fired;
          EXPECT_FALSE(disposed[i]);
          if (i != own) return;
          for (std::size_t k = 0; k < alarms.size(); ++k) {
            if (k == own || alarms[k]->count > 0) continue;
            disposed[k] = true;
            if (deed == Deed::clear) wheel.clear(alarms[k]->timer);
            if (deed == Deed::later) wheel.set(alarms[k]->timer, now + 2 * lap);
            if (deed == Deed::destroy) alarms[k] = nullptr;
          }
        };
        wheel.set(alarms[i]->timer, now + 10 * tick + (i == 4 ? tick : 0ms));
      }
      now += 20 * tick;  // both slots in one advance
      wheel.advance(now);
      const auto gone = static_cast<int>(std::count(disposed.begin(), disposed.end(), true));
      EXPECT_EQ(fired + gone, 5);
      EXPECT_TRUE(gone > 0 || own == 4 || own == 0) << own;
      disposed = {};
      run(wheel, now, now + 3 * lap);
      EXPECT_EQ(fired, deed == Deed::later ? 5 : 5 - gone);
    }
  }
}

TEST(TimerWheel, HandlerDestroysItself) {
  Time now = at(lap);
  TimerWheel wheel(now);
  auto first = std::make_unique<Alarm>();
  auto second = std::make_unique<Alarm>();
  int fired = 0;
  // By way of the argument: what is captured goes with the alarm.
  const auto destroy = [&fired](std::unique_ptr<Alarm>& alarm) {
    ++fired;
    alarm = nullptr;
  };
  first->fired = [&] { destroy(first); };
  second->fired = [&] { destroy(second); };
  wheel.set(first->timer, now + 1ms);
  wheel.set(second->timer, now + 1ms);
  run(wheel, now, now + 2 * tick);
  EXPECT_EQ(fired, 2);
  EXPECT_EQ(wheel.next(), never);
}

TEST(TimerWheel, HandlerSetsItselfAgain) {
  Time now = at(lap);
  TimerWheel wheel(now);
  Alarm periodic;
  periodic.fired = [&] { wheel.set(periodic.timer, now + 100ms); };
  Alarm impatient;  // a deadline that has passed must not keep advance() busy for ever
  impatient.fired = [&] { wheel.set(impatient.timer, now); };
  wheel.set(periodic.timer, now + 100ms);
  wheel.set(impatient.timer, now);
  run(wheel, now, now + 100s);
  EXPECT_GE(periodic.count, 100'000 / (100 + 64));
  EXPECT_LE(periodic.count, 1000);
  EXPECT_LE(impatient.count, 100s / tick + 1);
  // Also where the clock has leapt over many ticks.
  impatient.count = 0;
  now += 10 * lap;
  wheel.advance(now);
  EXPECT_GE(impatient.count, 1);
  EXPECT_LE(impatient.count, 10 * lap / tick + 1);
}

TEST(TimerWheel, DestroyedTimerIsForgotten) {
  Time now = at(lap);
  TimerWheel wheel(now);
  Alarm stays;
  wheel.set(stays.timer, now + 5 * tick);
  for (int i = 0; i < 10; ++i) {
    Alarm goes;
    wheel.set(goes.timer, now + 5 * tick);
    goes.fired = [] { FAIL(); };
  }
  run(wheel, now, now + 10 * tick);
  EXPECT_EQ(stays.count, 1);
}

TEST(TimerWheel, NextIsExactForTimersThatStay) {
  std::mt19937 random(20240601);
  for (int round = 0; round < 2000; ++round) {
    const Time now = at(50 * lap + Duration(random() % 200'000));
    TimerWheel wheel(now);
    EXPECT_EQ(wheel.next(), never);
    std::vector<std::unique_ptr<Alarm>> alarms(1 + random() % 5);
    Time first = never;
    for (auto& alarm : alarms) {
      alarm = std::make_unique<Alarm>();
      const Time deadline = now + Duration(random() % 150'000);
      wheel.set(alarm->timer, deadline);
      first = std::min(first, end_of_tick(deadline));
      // A deadline beyond the lap is looked at once a lap. The constructor's tick is not handled yet.
      ASSERT_EQ(wheel.next(), std::min(first, at(now.time_since_epoch() / tick * tick) + lap - tick));
    }
  }
}

TEST(TimerWheel, AgreesWithAModel) {
  const unsigned seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937 random(seed);
  constexpr std::size_t timers = 100;
  struct Expected {
    Time deadline = never;
    Time latest = never;  // by then it has fired
  };
  std::array<Expected, timers> model;
  std::array<Alarm, timers> alarms;
  Time now = at(1000 * lap + Duration(random() % 100));
  TimerWheel wheel(now);
  wheel.advance(now);
  const auto set = [&](std::size_t i) {
    constexpr std::array<int, 6> spans = {1, 64, 200, 5000, 65'536, 400'000};
    const auto span = spans[random() % spans.size()];
    const Time deadline = now + Duration(static_cast<int>(random() % static_cast<unsigned>(span)) - span / 8);
    model[i] = {deadline, end_of_tick(std::max(deadline, now))};
    wheel.set(alarms[i].timer, deadline);
  };
  const auto clear = [&](std::size_t i) {
    model[i] = {};
    wheel.clear(alarms[i].timer);
  };
  std::uint64_t fired = 0;
  for (std::size_t i = 0; i < timers; ++i) {
    alarms[i].fired = [&, i] {
      ++fired;
      EXPECT_NE(model[i].deadline, never);
      EXPECT_LE(model[i].deadline, now);
      model[i] = {};
      // Handlers set and clear any timer, their own too.
      if (random() % 2 == 0) set(i);
      if (random() % 4 == 0) set(random() % timers);
      if (random() % 4 == 0) clear(random() % timers);
    };
  }
  for (int step = 0; step < 100'000; ++step) {
    switch (random() % 8) {
      case 0:
      case 1:
      case 2:
      case 3:
        set(random() % timers);
        break;
      case 4:
        clear(random() % timers);
        break;
      case 5:
        now += Duration(random() % 10);
        wheel.advance(now);
        break;
      case 6:
        if (wheel.next() != never) now = wheel.next();
        wheel.advance(now);
        break;
      default:
        now += Duration(random() % (step % 100 == 0 ? 200'000U : 300U));
        wheel.advance(now);
        break;
    }
    Time first = never;
    for (std::size_t i = 0; i < timers; ++i) {
      ASSERT_EQ(alarms[i].timer.deadline(), model[i].deadline) << step;
      ASSERT_GT(model[i].latest, now) << step;
      first = std::min(first, model[i].latest);
    }
    // It may ask for a look at timers that have moved on, but never too late, nor for the past.
    ASSERT_LE(wheel.next(), first) << step;
    ASSERT_GT(wheel.next(), now) << step;
  }
  EXPECT_GT(fired, 1000U);
  // With nothing left it comes to rest.
  for (std::size_t i = 0; i < timers; ++i) clear(i);
  int looks = 0;
  while (wheel.next() != never) {
    now = wheel.next();
    wheel.advance(now);
    ASSERT_LE(++looks, 1024);
  }
}

}  // namespace
}  // namespace ringmx::ring
