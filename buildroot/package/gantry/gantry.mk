################################################################################
#
# gantry
#
################################################################################

# The checkout that this external tree is in. Its modules are vendored into the
# tarball by "make source": Go's own vendoring leaves out the C headers and
# libraries of the embedded encoders.
GANTRY_CHECKOUT = $(BR2_EXTERNAL_GANTRY_PATH)/..
GANTRY_VERSION = $(shell git -C $(GANTRY_CHECKOUT) describe --tags --always)
GANTRY_SITE = $(GANTRY_CHECKOUT)/dist
GANTRY_SITE_METHOD = file
GANTRY_SOURCE = gantry-$(GANTRY_VERSION).tar.gz
GANTRY_LICENSE = Apache-2.0
GANTRY_LICENSE_FILES = LICENSE

GANTRY_GOMOD = gantry
GANTRY_BUILD_TARGETS = cmd/gantryd
GANTRY_LDFLAGS = -X main.version=$(GANTRY_VERSION)

ifeq ($(BR2_PACKAGE_GANTRY_RELAY),y)
GANTRY_BUILD_TARGETS += cmd/gantry-relay
endif

ifeq ($(BR2_PACKAGE_GANTRY_FFMPEG),y)
GANTRY_DEPENDENCIES += host-pkgconf ffmpeg
GANTRY_GO_ENV += PKG_CONFIG="$(PKG_CONFIG_HOST_BINARY)"
else
GANTRY_TAGS = nolibav
endif

define GANTRY_USERS
	gantry -1 gantry -1 * /var/lib/gantry - video,audio Gantry
endef

define GANTRY_PERMISSIONS
	/etc/gantry d 0770 root gantry - - - - -
	/etc/gantry/gantryd.yaml f 0660 root gantry - - - - -
endef

define GANTRY_INSTALL_INIT_SYSTEMD
	$(INSTALL) -D -m 0644 $(@D)/systemd/gantryd.service \
		$(TARGET_DIR)/usr/lib/systemd/system/gantryd.service
	$(if $(BR2_PACKAGE_GANTRY_RELAY), \
		$(INSTALL) -D -m 0644 $(@D)/systemd/gantry-relay.service \
			$(TARGET_DIR)/usr/lib/systemd/system/gantry-relay.service)
endef

$(eval $(golang-package))
