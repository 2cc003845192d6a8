# The images that kubeadm and the manifests want, without any download: one with
# every Kubernetes program for all that is Kubernetes' own, CoreDNS, and pause.
ARG ROOTFS
FROM $ROOTFS AS links
# kube-proxy calls nft.
RUN mkdir -p /out/usr/local/bin /out/usr/sbin \
    && cp /usr/sbin/nft /out/usr/sbin/ \
    && ldd /usr/sbin/nft | grep -oE '/[^ ]+\.so[^ ]*' | xargs cp -L --parents -t /out \
    && for name in etcd kube-apiserver kube-controller-manager kube-scheduler kube-proxy podnet provisioner; do \
         ln -s kubernetes /out/usr/local/bin/$name; done

FROM scratch AS kubernetes
COPY --from=links /out /
COPY kubernetes /usr/local/bin/

FROM scratch AS coredns
COPY coredns /
ENTRYPOINT ["/coredns"]

FROM scratch AS pause
COPY pause /
USER 65535:65535
ENTRYPOINT ["/pause"]
