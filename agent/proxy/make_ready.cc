#include "agent/proxy/make_ready.h"

#include <utility>

#include "agent/proxy/ready_proxies.h"
#include "agent/proxy/tls_stream.h"

namespace oakum::agent {

namespace {

// Lives on its worker until the connection is ready or has failed.
class Greeting : public std::enable_shared_from_this<Greeting> {
 public:
  Greeting(Worker& worker, std::shared_ptr<ContainerCarrier> container, DialRequest request,
           RelaySlot slot)
      : worker_(worker),
        container_(std::move(container)),
        request_(std::move(request)),
        slot_(std::move(slot)) {}
  ~Greeting() { container_->ready().EndMaking(); }
  Greeting(const Greeting&) = delete;
  Greeting& operator=(const Greeting&) = delete;

  void Begin() {
    dial_ = Dial::Start(worker_.loop(), container_->carrier().upstreams(), request_,
                        [this](DialResult result) { Dialed(std::move(result)); });
  }

 private:
  static void DropLater(Worker& worker, const std::weak_ptr<ContainerCarrier>& container) {
    worker.loop().AddTimer(ReadyProxies::kIdle, [&worker, container] {
      if (const auto here = container.lock();
          here != nullptr && here->ready().DropOld(ReadyProxies::Clock::now())) {
        DropLater(worker, container);
      }
    });
  }

  void Dialed(DialResult result) {
    const auto self = shared_from_this();
    if (!result.failure && container_->ready().Put(request_, std::move(result.stream),
                                                   std::move(slot_), ReadyProxies::Clock::now())) {
      DropLater(worker_, container_);
    }
    worker_.Drop(this);
  }

  Worker& worker_;
  const std::shared_ptr<ContainerCarrier> container_;
  const DialRequest request_;
  RelaySlot slot_;
  std::unique_ptr<Dial> dial_;
};

}  // namespace

void MakeReady(Worker& worker, std::shared_ptr<ContainerCarrier> container, DialRequest request) {
  auto slot = container->TakeReadySlot();
  if (!slot || !container->ready().BeginMaking()) {
    return;
  }
  auto greeting = std::make_shared<Greeting>(worker, std::move(container), std::move(request),
                                             std::move(*slot));
  worker.Keep(greeting);
  greeting->Begin();
}

}  // namespace oakum::agent
