#include "policy/policy_set.h"

#include <dirent.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <map>
#include <memory>
#include <system_error>

#include "base/file.h"
#include "base/trusted_path.h"
#include "policy/compiled.h"
#include "policy/container_match.h"
#include "policy/jsonc.h"
#include "policy/suggest.h"
#include "policy/syntax.h"

namespace oakum::policy {

namespace {

bool IsPolicyName(std::string_view name) {
  return !name.starts_with('.') && (name.ends_with(".json") || name.ends_with(".jsonc"));
}

// The policy files of a directory, sorted by name.
Expected<std::vector<std::string>> ListDirectory(const std::string& path) {
  const std::unique_ptr<DIR, int (*)(DIR*)> directory(opendir(path.c_str()), closedir);
  if (!directory) {
    return ErrnoError(fmt::format("open {}", path));
  }
  std::vector<std::string> files;
  errno = 0;
  while (const dirent* entry = readdir(directory.get())) {
    if (IsPolicyName(entry->d_name)) {
      files.push_back(fmt::format("{}{}{}", path, path.ends_with('/') ? "" : "/", entry->d_name));
    }
    errno = 0;
  }
  if (errno != 0) {
    return ErrnoError(fmt::format("read {}", path));
  }
  if (files.empty()) {
    return MakeError(ENOENT, fmt::format("{}: no *.json or *.jsonc in this directory", path));
  }
  if (files.size() > PolicySet::kMaxFiles) {
    return MakeError(E2BIG,
                     fmt::format("{}: more than {} policy files", path, PolicySet::kMaxFiles));
  }
  std::sort(files.begin(), files.end());
  return files;
}

Expected<void> CheckWriters(const std::string& path, PolicyUse use) {
  std::error_code error;
  const auto absolute = std::filesystem::absolute(path, error);
  if (use == PolicyUse::kLookAt || error) {
    return {};
  }
  auto checked = CheckNotEverybodysToChange(absolute);
  return checked ? std::move(checked)
                 : std::unexpected(std::move(checked.error()).Context("policy"));
}

}  // namespace

struct PolicySet::Impl {
  std::vector<CheckedContainerRule> containers;
  std::map<std::string, Policy, std::less<>> policies;
  std::shared_ptr<const std::vector<std::string>> files;

  [[nodiscard]] std::string Describe(const Place& place) const {
    return fmt::format("{}:{}", (*files)[place.file], place.position.line);
  }

  static Expected<std::shared_ptr<const Impl>> Create(const Sources& sources);
};

Expected<std::shared_ptr<const PolicySet::Impl>> PolicySet::Impl::Create(const Sources& sources) {
  Diagnostics diagnostics(sources);
  std::vector<jsonc::Document> documents;
  std::vector<syntax::File> files;
  auto names = std::make_shared<std::vector<std::string>>();
  for (uint32_t number = 0; number < sources.size(); ++number) {
    names->push_back(sources.file(number).name());
    auto document = jsonc::Parse(sources, number, jsonc::Comments::kAllowed, diagnostics);
    if (document) {
      documents.push_back(std::move(*document));
    }
  }
  // A file that cannot be read would make references to what is in it look wrong.
  if (!diagnostics.ok()) {
    return std::unexpected(diagnostics.ToError());
  }
  for (const jsonc::Document& document : documents) {
    files.push_back(syntax::Read(document.root, diagnostics));
  }
  CheckedSet checked = Check(files, sources, diagnostics);
  if (!diagnostics.ok()) {
    return std::unexpected(diagnostics.ToError());
  }
  auto impl = std::make_shared<Impl>();
  impl->files = std::move(names);
  impl->containers = std::move(checked.containers);
  for (CheckedPolicy& policy : checked.policies) {
    std::string name = policy.name;
    impl->policies.emplace(std::move(name), Policy(Compile(std::move(policy), impl->files)));
  }
  return impl;
}

PolicySet::PolicySet(std::shared_ptr<const Impl> impl) : impl_(std::move(impl)) {}

Expected<std::shared_ptr<const PolicySet>> PolicySet::Load(const std::string& path, PolicyUse use) {
  struct stat status = {};
  if (stat(path.c_str(), &status) != 0) {
    return ErrnoError(fmt::format("policy {}", path));
  }
  std::vector<std::string> files = {path};
  if (S_ISDIR(status.st_mode)) {
    if (auto ours = CheckWriters(path, use); !ours) {
      return std::unexpected(std::move(ours.error()));
    }
    auto listed = ListDirectory(path);
    if (!listed) {
      return std::unexpected(std::move(listed.error()));
    }
    files = std::move(*listed);
  }
  Sources sources;
  for (std::string& file : files) {
    if (auto ours = CheckWriters(file, use); !ours) {
      return std::unexpected(std::move(ours.error()));
    }
    auto text = ReadFile(file, kMaxFileSize);
    if (!text) {
      return std::unexpected(std::move(text.error()).Context("policy"));
    }
    sources.Add(std::move(file), std::move(*text));
  }
  auto impl = Impl::Create(sources);
  if (!impl) {
    return std::unexpected(std::move(impl.error()));
  }
  return std::shared_ptr<const PolicySet>(new PolicySet(std::move(*impl)));
}

Expected<std::shared_ptr<const PolicySet>> PolicySet::Parse(std::string_view text,
                                                            std::string_view name) {
  if (text.size() > kMaxFileSize) {
    return MakeError(EFBIG, fmt::format("{}: longer than {} bytes", name, kMaxFileSize));
  }
  Sources sources;
  sources.Add(std::string(name), std::string(text));
  auto impl = Impl::Create(sources);
  if (!impl) {
    return std::unexpected(std::move(impl.error()));
  }
  return std::shared_ptr<const PolicySet>(new PolicySet(std::move(*impl)));
}

const Policy* PolicySet::Find(std::string_view name) const {
  const auto found = impl_->policies.find(name);
  return found == impl_->policies.end() ? nullptr : &found->second;
}

Expected<PolicySet::Choice> PolicySet::Choose(const ContainerFacts& facts) const {
  for (const CheckedContainerRule& rule : impl_->containers) {
    if (!Matches(rule, facts)) {
      continue;
    }
    if (const auto* unknown = UnknownFact(rule, facts); unknown != nullptr) {
      return MakeError(
          ENOENT, fmt::format("the rule at {} asks for the {} of this container, which is not "
                              "known: {}; ask for something else, or add \"engine\" to the rule",
                              impl_->Describe(rule.place), unknown->first, unknown->second));
    }
    const std::string& name =
        rule.policy_annotation.empty() ? rule.policy : facts.annotations.at(rule.policy_annotation);
    const Policy* policy = Find(name);
    if (policy == nullptr) {
      const std::vector<std::string> known = names();
      const std::vector<std::string_view> views(known.begin(), known.end());
      return MakeError(
          ENOENT, fmt::format("the annotation \"{}\" names the policy \"{}\", which does not exist "
                              "(rule at {}){}",
                              Escape(rule.policy_annotation), Escape(name),
                              impl_->Describe(rule.place), DidYouMean(name, views)));
    }
    return Choice{.policy = policy, .rule = impl_->Describe(rule.place)};
  }
  return MakeError(ENOENT,
                   fmt::format("no rule in \"containers\" matches this container (engine \"{}\", "
                               "name \"{}\", image \"{}\"); a last rule {{\"match\": {{}}, ...}} "
                               "takes what no other does",
                               Escape(facts.engine), Escape(facts.name), Escape(facts.image)));
}

Expected<const Policy*> PolicySet::Match(const ContainerFacts& facts) const {
  auto choice = Choose(facts);
  if (!choice) {
    return std::unexpected(std::move(choice.error()));
  }
  return choice->policy;
}

size_t PolicySet::container_rules() const { return impl_->containers.size(); }

std::vector<std::string> PolicySet::names() const {
  std::vector<std::string> names;
  names.reserve(impl_->policies.size());
  for (const auto& [name, policy] : impl_->policies) {
    names.push_back(name);
  }
  return names;
}

}  // namespace oakum::policy
