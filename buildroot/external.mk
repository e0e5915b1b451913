include $(sort $(wildcard $(BR2_EXTERNAL_GANTRY_PATH)/package/*/*.mk))
