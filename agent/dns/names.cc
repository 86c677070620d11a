#include "agent/dns/names.h"

#include <sys/random.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <list>
#include <map>
#include <mutex>
#include <optional>
#include <unordered_map>
#include <utility>

#include "agent/dns/names_file.h"
#include "base/fnv.h"

namespace oakum::agent {

namespace {

using policy::IpAddress;

// 198.18.0.0/15 without its first and its last address, which look like a network's own.
constexpr uint32_t kFirstV4 = 198U << 24 | 18U << 16;
constexpr uint32_t kPoolSize = 1U << 17;
constexpr uint32_t kOwnPlaces = 8;  // that follow from a name
constexpr std::array<uint8_t, 8> kPrefixV6 = {0xfd, 0x6f, 0x61, 0x6b, 0x75, 0x6d, 0, 0};

// FNV-1a with a final mix (MurmurHash3's): no secret, since a container that makes its own names
// collide only loses places in its own pool.
uint64_t Hash(std::string_view name) {
  uint64_t hash = Fnv1a(name);
  hash = (hash ^ hash >> 33) * 0xff51afd7ed558ccd;
  hash = (hash ^ hash >> 33) * 0xc4ceb9fe1a85ec53;
  return hash ^ hash >> 33;
}

void PutBigEndian(uint8_t* out, uint32_t value) {
  for (int i = 0; i < 4; ++i) {
    out[i] = static_cast<uint8_t>(value >> (24 - 8 * i));
  }
}

uint32_t GetBigEndian(const uint8_t* bytes) {
  return uint32_t{bytes[0]} << 24 | uint32_t{bytes[1]} << 16 | uint32_t{bytes[2]} << 8 | bytes[3];
}

// An IPv6 address of the pool: 32 bits of the name's hash, then its place.
IpAddress PoolV6(uint32_t check, uint32_t place) {
  std::array<uint8_t, 16> bytes{};
  std::ranges::copy(kPrefixV6, bytes.begin());
  PutBigEndian(&bytes[8], check);
  PutBigEndian(&bytes[12], place);
  return IpAddress(bytes);
}

IpAddress PoolV4(uint32_t place) {
  std::array<uint8_t, 4> bytes{};
  PutBigEndian(bytes.data(), kFirstV4 + place);
  return IpAddress::FromV4(bytes);
}

bool IsPoolV6(const IpAddress& ip) {
  return std::equal(kPrefixV6.begin(), kPrefixV6.end(), ip.bytes().begin());
}

bool IsPoolV4(const IpAddress& ip) {
  return ip.IsV4() && (GetBigEndian(&ip.bytes()[12]) & ~(kPoolSize - 1)) == kFirstV4;
}

bool IsOutside(const IpAddress& ip) {
  const auto& bytes = ip.bytes();
  if (ip.IsV4()) {
    const uint8_t first = bytes[12];
    return first != 0 && first != 127 && !(first == 169 && bytes[13] == 254) && first < 224;
  }
  const IpAddress loopback = *IpAddress::Parse("::1");
  return ip != IpAddress() && ip != loopback && bytes[0] != 0xff &&
         !(bytes[0] == 0xfe && (bytes[1] & 0xc0) == 0x80);
}

struct Place {
  std::string name;
  uint32_t check;
  uint32_t place;
};

struct Learned {
  IpAddress ip;
  std::string name;
  Names::Clock::time_point until;
  Names::Clock::time_point kept;  // `until` as it is in the file
};

// A name that is told for longer by no more than this is not written again.
constexpr std::chrono::seconds kKeptWithin{30};

}  // namespace

struct Names::Impl {
  explicit Impl(std::function<Clock::time_point()> clock) : now(std::move(clock)) {}

  const Place& PlaceOf(std::string_view name);
  void Remove(std::list<Place>::iterator which);
  void MakeRoom(size_t name_size);
  uint32_t FreePlace(uint64_t hash) const;
  void Forget(std::list<Learned>::iterator which);
  void Restore(const NamesFile::Record& record);
  void Write(const NamesFile::Record& record);
  [[nodiscard]] NamesFile::Record RecordOf(const Place& place) const;
  [[nodiscard]] NamesFile::Record RecordOf(const Learned& learned) const;

  const std::function<Clock::time_point()> now;
  std::mutex mutex;

  std::list<Place> places;  // the one used last first
  // Ordered: no choice of names makes it slow, as it could a hash table.
  std::map<std::string_view, std::list<Place>::iterator> by_name;
  std::unordered_map<uint32_t, std::list<Place>::iterator> by_place;
  size_t name_bytes = 0;
  std::optional<NamesFile> file;

  std::list<Learned> learned;                                            // the one told last first
  std::map<IpAddress, std::vector<std::list<Learned>::iterator>> by_ip;  // in the same order
};

// One of the few places that follow from the name; where others have them all, any: a quarter is
// free, so that chance finds one soon whatever names a container makes up.
uint32_t Names::Impl::FreePlace(uint64_t hash) const {
  const auto is_free = [&](uint32_t place) {
    return place != 0 && place != kPoolSize - 1 && !by_place.contains(place);
  };
  const auto step = static_cast<uint32_t>(hash >> 32) | 1;
  for (uint32_t i = 0; i < kOwnPlaces; ++i) {
    const uint32_t place = (static_cast<uint32_t>(hash) + i * step) % kPoolSize;
    if (is_free(place)) {
      return place;
    }
  }
  for (;;) {
    std::array<uint32_t, 16> random{};
    if (getrandom(random.data(), sizeof random, 0) != static_cast<ssize_t>(sizeof random)) {
      continue;  // interrupted (getrandom(2))
    }
    for (const uint32_t bits : random) {
      if (is_free(bits % kPoolSize)) {
        return bits % kPoolSize;
      }
    }
  }
}

void Names::Impl::Remove(std::list<Place>::iterator which) {
  by_name.erase(which->name);
  by_place.erase(which->place);
  name_bytes -= which->name.size();
  places.erase(which);
}

void Names::Impl::MakeRoom(size_t name_size) {
  while (!places.empty() &&
         (places.size() >= kMaxSynthetic || name_bytes + name_size > kMaxSyntheticBytes)) {
    Remove(std::prev(places.end()));
  }
}

const Place& Names::Impl::PlaceOf(std::string_view name) {
  if (const auto found = by_name.find(name); found != by_name.end()) {
    places.splice(places.begin(), places, found->second);
    return places.front();
  }
  MakeRoom(name.size());
  const uint64_t hash = Hash(name);
  places.push_front({.name = std::string(name),
                     .check = static_cast<uint32_t>(hash >> 32),
                     .place = FreePlace(hash)});
  by_name.emplace(places.front().name, places.begin());
  by_place.emplace(places.front().place, places.begin());
  name_bytes += name.size();
  Write(RecordOf(places.front()));
  return places.front();
}

NamesFile::Record Names::Impl::RecordOf(const Place& place) const {
  return {.name = place.name, .ip = PoolV4(place.place), .until_ns = 0};
}

NamesFile::Record Names::Impl::RecordOf(const Learned& told) const {
  const auto until = std::chrono::system_clock::now() + (told.until - now());
  return {
      .name = told.name,
      .ip = told.ip,
      .until_ns =
          std::chrono::duration_cast<std::chrono::nanoseconds>(until.time_since_epoch()).count()};
}

void Names::Impl::Write(const NamesFile::Record& record) {
  if (!file) {
    return;
  }
  file->Append(record);
  const size_t live = (places.size() + learned.size()) * NamesFile::SizeOf({}) + name_bytes +
                      learned.size() * NamesFile::kMaxName / 4;
  if (file->WantsRewrite(live)) {
    file->Rewrite([this](const auto& put) {
      // The one used last comes last, as it was told.
      for (auto place = places.rbegin(); place != places.rend(); ++place) {
        put(RecordOf(*place));
      }
      for (auto told = learned.rbegin(); told != learned.rend(); ++told) {
        put(RecordOf(*told));
      }
    });
  }
}

void Names::Impl::Restore(const NamesFile::Record& record) {
  const uint32_t number = GetBigEndian(&record.ip.bytes()[12]) - kFirstV4;
  // Whoever had the name's other place, or this place, has been forgotten since.
  if (const auto known = by_name.find(record.name); known != by_name.end()) {
    Remove(known->second);
  }
  if (const auto taken = by_place.find(number); taken != by_place.end()) {
    Remove(taken->second);
  }
  MakeRoom(record.name.size());
  places.push_front({.name = std::string(record.name),
                     .check = static_cast<uint32_t>(Hash(record.name) >> 32),
                     .place = number});
  by_name.emplace(places.front().name, places.begin());
  by_place.emplace(number, places.begin());
  name_bytes += record.name.size();
}

void Names::Impl::Forget(std::list<Learned>::iterator which) {
  const auto entry = by_ip.find(which->ip);
  std::erase(entry->second, which);
  if (entry->second.empty()) {
    by_ip.erase(entry);
  }
  learned.erase(which);
}

Names::Names() : Names(&Clock::now) {}
Names::Names(std::function<Clock::time_point()> now)
    : impl_(std::make_unique<Impl>(std::move(now))) {}
Names::~Names() = default;

void Names::KeepIn(UniqueFd fd) {
  auto file = NamesFile::Open(std::move(fd));
  if (!file) {
    return;
  }
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  file->Read([&](const NamesFile::Record& record) {
    if (record.until_ns == 0 && IsPoolV4(record.ip)) {
      const std::lock_guard lock(impl_->mutex);
      impl_->Restore(record);
      return;
    }
    const auto left = std::chrono::duration_cast<std::chrono::seconds>(
        std::chrono::nanoseconds(record.until_ns) - now);
    if (left > std::chrono::seconds(0)) {
      Learn(record.name, record.ip, left - kGrace);
    }
  });
  const std::lock_guard lock(impl_->mutex);
  impl_->file.emplace(std::move(*file));
}

IpAddress Names::SyntheticV4(std::string_view name) {
  const std::lock_guard lock(impl_->mutex);
  return PoolV4(impl_->PlaceOf(name).place);
}

IpAddress Names::SyntheticV6(std::string_view name) {
  const std::lock_guard lock(impl_->mutex);
  const Place& place = impl_->PlaceOf(name);
  return PoolV6(place.check, place.place);
}

bool Names::IsSynthetic(const IpAddress& ip) {
  if (IsPoolV4(ip) || IsPoolV6(ip)) {
    return true;
  }
  const auto inside = policy::EmbeddedV4(ip);
  return inside && IsPoolV4(*inside);
}

void Names::Learn(std::string_view name, const IpAddress& ip, std::chrono::seconds ttl) {
  if (!IsOutside(ip) || !IsOutside(policy::EmbeddedV4(ip).value_or(ip)) || IsSynthetic(ip)) {
    return;
  }
  const std::lock_guard lock(impl_->mutex);
  const auto until = impl_->now() + std::clamp(ttl, kMinTtl, kMaxTtl) + kGrace;
  auto& of_ip = impl_->by_ip[ip];
  const auto known = std::ranges::find_if(of_ip, [&](const auto& at) { return at->name == name; });
  if (known != of_ip.end()) {
    (*known)->until = std::max((*known)->until, until);
    if ((*known)->until - (*known)->kept > kKeptWithin) {
      (*known)->kept = (*known)->until;
      impl_->Write(impl_->RecordOf(**known));
    }
    impl_->learned.splice(impl_->learned.begin(), impl_->learned, *known);
    std::rotate(of_ip.begin(), known, known + 1);
    return;
  }
  impl_->learned.push_front({.ip = ip, .name = std::string(name), .until = until, .kept = until});
  of_ip.insert(of_ip.begin(), impl_->learned.begin());
  if (of_ip.size() > kMaxNamesOfAddress) {
    impl_->Forget(of_ip.back());
  }
  if (impl_->learned.size() > kMaxLearned) {
    impl_->Forget(std::prev(impl_->learned.end()));
  }
  impl_->Write(impl_->RecordOf(impl_->learned.front()));
}

std::vector<std::string> Names::Of(const IpAddress& ip) {
  const std::lock_guard lock(impl_->mutex);
  if (IsPoolV4(ip) || IsPoolV6(ip)) {
    const uint32_t low = GetBigEndian(&ip.bytes()[12]);
    const auto found = impl_->by_place.find(IsPoolV4(ip) ? low - kFirstV4 : low);
    if (found == impl_->by_place.end() ||
        (IsPoolV6(ip) && PoolV6(found->second->check, low) != ip)) {
      return {};
    }
    impl_->places.splice(impl_->places.begin(), impl_->places, found->second);
    return {found->second->name};
  }
  std::vector<std::string> names;
  const auto of_ip = impl_->by_ip.find(ip);
  if (of_ip == impl_->by_ip.end()) {
    return names;
  }
  const auto now = impl_->now();
  std::vector<std::list<Learned>::iterator> expired;
  for (const auto& at : of_ip->second) {
    if (at->until > now) {
      names.push_back(at->name);
    } else {
      expired.push_back(at);
    }
  }
  for (const auto& at : expired) {
    impl_->Forget(at);
  }
  return names;
}

}  // namespace oakum::agent
