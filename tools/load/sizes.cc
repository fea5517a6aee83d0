// SPDX-License-Identifier: GPL-3.0-or-later
#include "load/sizes.h"

#include <algorithm>
#include <cmath>

#include "load/quantity.h"

namespace ringmx::load {

namespace {

// Cuts off what stands before the next `separator`.
std::string_view cut(std::string_view& text, char separator) {
  const std::size_t at = std::min(text.find(separator), text.size());
  const std::string_view first = text.substr(0, at);
  text.remove_prefix(std::min(at + 1, text.size()));
  return first;
}

bool size(std::string_view text, std::uint64_t& out) {
  const auto value = parse_size(text);
  if (!value || *value > Sizes::limit) return false;
  out = *value;
  return true;
}

std::string wrong(std::string_view text) {
  return "'" + std::string(text) +
         "' is no size: write 4KiB, 2KiB*70,1MiB*30 (weights), uniform:1KiB-64KiB, "
         "lognormal:12KiB,1.2[,25MiB] or mail";
}

}  // namespace

std::optional<std::string> Sizes::parse(std::string_view text, Sizes& out) {
  using Shape = Part::Shape;
  const std::string_view whole = text;
  Sizes sizes;
  sizes.parts_.clear();
  if (text == "mail") {
    // Two kinds of mail: notes and newsletters, and what carries an attachment.
    sizes.parts_ = {Part{Shape::lognormal, 0.8, 12 * 1024, default_cut, 1.1},
                    Part{Shape::lognormal, 0.2, 200 * 1024, default_cut, 1.5}};
  } else if (text.starts_with("uniform:")) {
    cut(text, ':');
    Part part{.shape = Shape::uniform};
    if (!size(cut(text, '-'), part.low) || !size(text, part.high) || part.high < part.low)
      return wrong(whole);
    sizes.parts_.push_back(part);
  } else if (text.starts_with("lognormal:")) {
    cut(text, ':');
    Part part{.shape = Shape::lognormal, .high = default_cut};
    if (!size(cut(text, ','), part.low) || part.low == 0) return wrong(whole);
    const auto sigma = parse_decimal(cut(text, ','));
    if (!sigma || *sigma > 10 || (!text.empty() && !size(text, part.high))) return wrong(whole);
    part.sigma = *sigma;
    sizes.parts_.push_back(part);
  } else {
    if (text.ends_with(',')) return wrong(whole);
    do {
      std::string_view item = cut(text, ',');
      const bool weighted = item.find('*') != item.npos;
      Part part;
      if (!size(cut(item, '*'), part.low)) return wrong(whole);
      if (weighted) {
        const auto weight = parse_decimal(item);
        if (!weight) return wrong(whole);
        part.weight = *weight;
      }
      sizes.parts_.push_back(part);
    } while (!text.empty());
  }
  sizes.weights_ = 0;
  for (const Part& part : sizes.parts_) sizes.weights_ += part.weight;
  if (!(sizes.weights_ > 0)) return "'" + std::string(whole) + "': no size has any weight";
  out = std::move(sizes);
  return std::nullopt;
}

std::uint64_t Sizes::draw(Random& random) const noexcept {
  const Part* part = &parts_.front();
  if (parts_.size() > 1) {
    double at = random.uniform() * weights_;
    for (const Part& candidate : parts_) {
      part = &candidate;
      if ((at -= candidate.weight) < 0) break;
    }
  }
  switch (part->shape) {
    case Part::Shape::fixed:
      return part->low;
    case Part::Shape::uniform:
      return part->low +
             static_cast<std::uint64_t>(random.uniform() * static_cast<double>(part->high - part->low + 1));
    case Part::Shape::lognormal:
      return static_cast<std::uint64_t>(
          std::min(static_cast<double>(part->low) * std::exp(part->sigma * random.normal()),
                   static_cast<double>(part->high)));
  }
  return 0;
}

}  // namespace ringmx::load
