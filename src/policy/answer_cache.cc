// SPDX-License-Identifier: GPL-3.0-or-later
#include "policy/answer_cache.h"

#include <algorithm>

#include "smtp/ascii.h"

namespace ringmx::policy {

namespace {

// With its length in front: no two lists of parts make one text.
void append_part(std::string& key, std::string_view part) {
  key.append(std::to_string(part.size())).append(":").append(part);
}

void append_in_lower_case(std::string& key, std::string_view part) {
  std::string lower(part);
  std::transform(lower.begin(), lower.end(), lower.begin(), smtp::lower_case);
  append_part(key, lower);
}

// As it is written: auth_http tells a script the quotes, and it may take them for another mailbox.
void append_mailbox(std::string& key, const smtp::Path& path) {
  append_part(key, path.local_part);
  append_in_lower_case(key, path.domain);
}

template <class Octets>
void append_octets(std::string& key, const Octets& octets) {
  append_part(key, {reinterpret_cast<const char*>(octets.data()), octets.size()});
}

}  // namespace

std::string cache_key(const std::vector<CacheField>& fields, const Question& question) {
  const Facts& f = question.facts;
  std::string key(1, static_cast<char>('0' + static_cast<int>(question.step)));
  // Whatever the service looks at: what is refused in clear text is asked anew after STARTTLS, and what is
  // let pass in TLS is not in clear text.
  key += f.tls.version != 0 ? 's' : 'c';
  for (const CacheField field : fields) {
    switch (field) {
      case CacheField::listener:
        append_part(key, f.listener);
        break;
      case CacheField::client:
        append_octets(key, f.client);
        break;
      case CacheField::helo:
        append_in_lower_case(key, f.helo);
        break;
      case CacheField::user:
        append_part(key, f.user);
        break;
      case CacheField::tls:
        append_part(key, std::to_string(f.tls.version));
        break;
      case CacheField::certificate:
        if (f.tls.version != 0 && f.tls.certificate != nullptr) {
          key += f.tls.certificate->verified ? 'v' : 'p';
          append_octets(key, f.tls.certificate->sha256);
        } else {
          key += '-';
        }
        break;
      case CacheField::sender:
        append_mailbox(key, f.sender);
        break;
      case CacheField::sender_domain:
        append_in_lower_case(key, f.sender.domain);
        break;
      case CacheField::recipient:
        append_mailbox(key, f.recipient);
        break;
      case CacheField::recipient_domain:
        append_in_lower_case(key, f.recipient.domain);
        break;
    }
  }
  return key;
}

const Answer* AnswerCache::find(const std::string& key, std::int64_t now) {
  const auto found = by_key_.find(key);
  if (found == by_key_.end()) return nullptr;
  const Entries::iterator entry = found->second;
  if (entry->expires <= now) {
    by_key_.erase(found);
    entries_.erase(entry);
    return nullptr;
  }
  entries_.splice(entries_.begin(), entries_, entry);
  return &entry->answer;
}

void AnswerCache::insert(std::string key, Answer answer, std::int64_t now) {
  if (capacity_ == 0) return;
  if (const auto old = by_key_.find(key); old != by_key_.end()) {
    const Entries::iterator entry = old->second;
    by_key_.erase(old);
    entries_.erase(entry);
  } else if (by_key_.size() == capacity_) {
    by_key_.erase(entries_.back().key);
    entries_.pop_back();
  }
  entries_.push_front({std::move(key), std::move(answer), now + lifetime_});
  by_key_.emplace(entries_.front().key, entries_.begin());
}

}  // namespace ringmx::policy
