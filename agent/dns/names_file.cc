#include "agent/dns/names_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <utility>

namespace oakum::agent {

namespace {

constexpr std::array<char, 8> kMagic = {'O', 'A', 'K', 'U', 'M', 'N', 'A', 'M'};

struct Header {
  std::array<char, 8> magic;
  uint32_t version;
  uint32_t unused;
  std::array<uint32_t, 2> place;  // of the records; written in one piece
};
constexpr uint32_t kFirst = 64;  // where records may begin

struct Wire {
  std::array<uint8_t, 16> ip;
  int64_t until_ns;
  uint64_t size;  // of the name, which follows
};

std::string Encode(const NamesFile::Record& record) {
  const Wire wire = {record.ip.bytes(), record.until_ns, record.name.size()};
  std::string bytes(reinterpret_cast<const char*>(&wire), sizeof wire);
  bytes += record.name;
  return bytes;
}

bool Put(int fd, std::string_view bytes, uint32_t offset) {
  return pwrite(fd, bytes.data(), bytes.size(), offset) == static_cast<ssize_t>(bytes.size());
}

}  // namespace

UniqueFd NamesFile::Make() {
  UniqueFd file(memfd_create("oakum-names", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  const Header header = {kMagic, kVersion, 0, {kFirst, kFirst}};
  if (file && (!Put(file.get(), {reinterpret_cast<const char*>(&header), sizeof header}, 0) ||
               ftruncate(file.get(), kFirst) != 0)) {
    file.Reset();
  }
  return file;
}

bool NamesFile::IsOne(int fd) {
  std::array<char, 8> magic = {};
  return fcntl(fd, F_GET_SEALS) >= 0 && pread(fd, magic.data(), magic.size(), 0) == 8 &&
         magic == kMagic;
}

Expected<NamesFile> NamesFile::Open(UniqueFd file) {
  Header header = {};
  if (pread(file.get(), &header, sizeof header, 0) != sizeof header || header.magic != kMagic) {
    return MakeError(EINVAL, "a kept descriptor is not a container's names");
  }
  if (header.version != kVersion) {
    return MakeError(ENOTSUP, "a container's names were kept in another version of their format");
  }
  const auto [begin, end] = header.place;
  struct stat status = {};
  if (begin < kFirst || end < begin || end - begin > kMaxSize || fstat(file.get(), &status) != 0 ||
      status.st_size < off_t{end}) {
    return MakeError(EINVAL, "a container's names that were kept are damaged");
  }
  return NamesFile(std::move(file), {begin, end});
}

void NamesFile::Read(const std::function<void(const Record&)>& take) const {
  std::string all(place_.end - place_.begin, '\0');
  if (pread(file_.get(), all.data(), all.size(), place_.begin) !=
      static_cast<ssize_t>(all.size())) {
    return;
  }
  std::string_view rest = all;
  while (rest.size() >= sizeof(Wire)) {
    Wire wire = {};
    memcpy(&wire, rest.data(), sizeof wire);
    rest.remove_prefix(sizeof wire);
    if (wire.size > kMaxName || wire.size > rest.size()) {
      return;
    }
    take({rest.substr(0, wire.size), policy::IpAddress(wire.ip), wire.until_ns});
    rest.remove_prefix(wire.size);
  }
}

void NamesFile::SetPlace(Place place) {
  const std::array<uint32_t, 2> both = {place.begin, place.end};
  if (Put(file_.get(), {reinterpret_cast<const char*>(both.data()), sizeof both},
          offsetof(Header, place))) {
    place_ = place;
  }
}

void NamesFile::Append(const Record& record) {
  const std::string bytes = Encode(record);
  if (record.name.size() <= kMaxName && bytes.size() < UINT32_MAX - place_.end &&
      place_.end - place_.begin + bytes.size() <= kMaxSize && Put(file_.get(), bytes, place_.end)) {
    SetPlace({place_.begin, place_.end + static_cast<uint32_t>(bytes.size())});
  }
}

bool NamesFile::WantsRewrite(size_t live) const {
  const size_t size = place_.end - place_.begin;
  return size > kRewriteAbove && size > 2 * live;
}

void NamesFile::Rewrite(
    const std::function<void(const std::function<void(const Record&)>&)>& give) {
  std::string bytes;
  give([&](const Record& record) { bytes += Encode(record); });
  // Never over what is there: before it if there is room, else behind it.
  const uint32_t begin = bytes.size() <= place_.begin - kFirst ? kFirst : place_.end;
  if (bytes.size() > kMaxSize || bytes.size() >= UINT32_MAX - begin ||
      !Put(file_.get(), bytes, begin)) {
    return;
  }
  const Place old = place_;
  SetPlace({begin, begin + static_cast<uint32_t>(bytes.size())});
  if (place_.begin == begin) {
    (void)fallocate(file_.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, old.begin,
                    static_cast<off_t>(old.end) - old.begin);
  }
}

size_t NamesFile::SizeOf(std::string_view name) { return sizeof(Wire) + name.size(); }

}  // namespace oakum::agent
