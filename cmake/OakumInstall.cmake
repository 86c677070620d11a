# Programs are added to this list as they come to be.
#install(TARGETS oakum oakum-agent oakum-hook oakum-runtime RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
