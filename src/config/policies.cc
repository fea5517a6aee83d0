// SPDX-License-Identifier: GPL-3.0-or-later
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include "config/config.h"
#include "config/notation.h"

// From the rules as they are written to rules that can be asked. A list stands in the configuration, in a
// file of its own, or in both; a set that several rules name in the same words is made once.

namespace ringmx::config {
namespace {

// With more of them it is the wrong file.
constexpr std::size_t most_problems_of_a_file = 10;

// 0, or what went wrong.
int read_whole(const std::string& file, std::string& text) {
  const int fd = ::open(file.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return errno;
  struct stat status {};
  int error = ::fstat(fd, &status) == 0 ? 0 : errno;
  // A device or a pipe would go on and on.
  if (error == 0 && !S_ISREG(status.st_mode)) error = S_ISDIR(status.st_mode) ? EISDIR : EINVAL;
  if (error == 0) text.resize(static_cast<std::size_t>(status.st_size));
  for (std::size_t have = 0; error == 0 && have < text.size();) {
    const ssize_t n = ::read(fd, text.data() + have, text.size() - have);
    if (n < 0) error = errno;
    if (n == 0) text.resize(have);
    if (n > 0) have += static_cast<std::size_t>(n);
  }
  ::close(fd);
  return error;
}

std::string_view without_comment(std::string_view line) {
  line = line.substr(0, line.find('#'));
  const std::size_t first = line.find_first_not_of(" \t\r");
  if (first == line.npos) return {};
  return line.substr(first, line.find_last_not_of(" \t\r") - first + 1);
}

// Makes sets of one kind. Parse: what a word of a list says, or what is wrong with it.
template <class Set, class Item>
class Sets {
 public:
  using Parse = std::optional<Fault> (*)(std::string_view, Item&);
  Sets(Parse parse, std::vector<Problem>& problems) : parse_(parse), problems_(problems) {}

  // Null if there is neither.
  std::shared_ptr<const Set> get(const std::string& key, const std::vector<std::string>& list,
                                 const std::string& file) {
    if (list.empty() && file.empty()) return nullptr;
    std::shared_ptr<const Set>& set = sets_[{list, file}];
    if (set) return set;
    std::vector<Item> items;
    // The configuration's own words have been checked.
    for (const std::string& word : list) parse_(word, items.emplace_back());
    std::string text;  // what items may point into
    if (!file.empty()) read(key, file, text, items);
    return set = std::make_shared<const Set>(items);
  }

 private:
  void read(const std::string& key, const std::string& file, std::string& text, std::vector<Item>& items) {
    if (const int error = read_whole(file, text); error != 0) {
      problems_.push_back({file, 0, 0, key, "can't be read: " + std::generic_category().message(error),
                           "name a readable file with one entry in each line"});
      return;
    }
    items.reserve(items.size() + static_cast<std::size_t>(std::count(text.begin(), text.end(), '\n')) + 1);
    std::size_t faults = 0;
    std::uint32_t number = 0;
    for (std::string_view rest = text; !rest.empty();) {
      const std::string_view line = rest.substr(0, rest.find('\n'));
      rest.remove_prefix(std::min(line.size() + 1, rest.size()));
      ++number;
      const std::string_view word = without_comment(line);
      if (word.empty()) continue;
      Item item{};
      if (auto fault = parse_(word, item)) {
        if (++faults > most_problems_of_a_file) continue;
        const auto column = static_cast<std::uint32_t>(word.data() - line.data() + 1);
        problems_.push_back({file, number, column, key, std::move(fault->message), std::move(fault->mend)});
      } else {
        items.push_back(item);
      }
    }
    if (faults <= most_problems_of_a_file) return;
    problems_.push_back({file, 0, 0, key,
                         std::to_string(faults - most_problems_of_a_file) + " more lines are wrong",
                         "name a file with one entry in each line"});
  }

  Parse parse_;
  std::vector<Problem>& problems_;
  std::map<std::pair<std::vector<std::string>, std::string>, std::shared_ptr<const Set>> sets_;
};

std::optional<Fault> parse_domain_pattern(std::string_view text, std::string_view& out) {
  out = text;
  return check_domain_pattern(text);
}
std::optional<Fault> parse_sender_pattern(std::string_view text, std::string_view& out) {
  out = text;
  return check_sender_pattern(text);
}

}  // namespace

bool load_policies(const Config& config, policy::Policies& out, std::vector<Problem>& problems) {
  const std::size_t before = problems.size();
  Sets<policy::Networks, policy::Network> networks(parse_network, problems);
  Sets<policy::Domains, std::string_view> domains(parse_domain_pattern, problems);
  Sets<policy::Domains, std::string_view> senders(parse_sender_pattern, problems);
  Sets<policy::Fingerprints, policy::Fingerprint> fingerprints(parse_fingerprint, problems);
  policy::Policies policies;
  for (const Rule& rule : config.rules) {
    policy::Rule made;
    made.name = rule.name;
    made.index = policies.rules.size();
    made.steps = rule.steps;
    made.clients = networks.get("rule.clients_file", rule.clients, rule.clients_file);
    made.helo = domains.get("rule.helo", rule.helo, "");
    made.authenticated = rule.authenticated;
    made.senders = senders.get("rule.sender_domains_file", rule.sender_domains, rule.sender_domains_file);
    made.recipients =
        domains.get("rule.recipient_domains_file", rule.recipient_domains, rule.recipient_domains_file);
    made.tls = rule.tls;
    made.certificate = rule.client_certificate;
    made.fingerprints = fingerprints.get("rule.fingerprints_file", rule.fingerprints, rule.fingerprints_file);
    made.otherwise = rule.otherwise;
    if (!rule.reply.empty()) made.reply = rule.reply + "\r\n";
    policies.rules.push_back(std::make_unique<const policy::Rule>(std::move(made)));
  }
  for (const Listener& listener : config.listeners) {
    std::vector<const policy::Rule*> rules;
    for (std::size_t i = 0; i < config.rules.size(); ++i) {
      const std::vector<std::string>& named = config.rules[i].listeners;
      if (named.empty() || std::find(named.begin(), named.end(), listener.name) != named.end())
        rules.push_back(policies.rules[i].get());
    }
    policies.listeners.emplace_back(rules);
  }
  if (problems.size() != before) return false;
  out = std::move(policies);
  return true;
}

}  // namespace ringmx::config
