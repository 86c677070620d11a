# Where things go: GNUInstallDirs for programs, data and man pages. Configuration is always in /etc,
# because that is where the programs look (docs/operations.md), whatever the prefix.

set(OAKUM_SYSTEMD_UNIT_DIR lib/systemd/system CACHE STRING "Folder of the systemd unit, below the prefix")

set(OAKUM_SYSTEMD_USER_UNIT_DIR lib/systemd/user CACHE STRING
  "Folder of the systemd unit of ordinary users, below the prefix")

install(TARGETS oakum oakum-agent oakum-hook oakum-runtime RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})

# Files that name a program or a folder are made when they are installed: `cmake --install --prefix`
# and CPack choose the prefix only then.
function(oakum_install_generated source destination)
  string(REGEX REPLACE "\\.in$" "" name ${source})
  set(generated ${PROJECT_BINARY_DIR}/packaging/${name})
  install(CODE "
    set(bindir \"\${CMAKE_INSTALL_PREFIX}/${CMAKE_INSTALL_BINDIR}\")
    set(libexecdir \"\${CMAKE_INSTALL_PREFIX}/${CMAKE_INSTALL_LIBEXECDIR}\")
    set(datadir \"\${CMAKE_INSTALL_PREFIX}/${CMAKE_INSTALL_DATADIR}\")
    configure_file(\"${PROJECT_SOURCE_DIR}/packaging/${source}\" \"${generated}\" @ONLY)")
  install(FILES ${generated} DESTINATION ${destination})
endfunction()

oakum_install_generated(oakum-agent.service.in ${OAKUM_SYSTEMD_UNIT_DIR})
oakum_install_generated(oakum-keeper.service.in ${OAKUM_SYSTEMD_UNIT_DIR})
oakum_install_generated(user/oakum-agent.service.in ${OAKUM_SYSTEMD_USER_UNIT_DIR})
oakum_install_generated(user/oakum-keeper.service.in ${OAKUM_SYSTEMD_USER_UNIT_DIR})
oakum_install_generated(hooks.d/oakum.json.in ${CMAKE_INSTALL_DATADIR}/oakum/hooks.d)
oakum_install_generated(podman.conf.in ${CMAKE_INSTALL_DATADIR}/oakum)

install(PROGRAMS packaging/user/podman-exec DESTINATION ${CMAKE_INSTALL_LIBEXECDIR}/oakum)
install(FILES packaging/config.json DESTINATION /etc/oakum)
install(FILES packaging/policy.d/50-default.jsonc DESTINATION /etc/oakum/policy.d)
install(FILES packaging/oakum.logrotate DESTINATION /etc/logrotate.d RENAME oakum)
foreach(section 1 5 8)
  file(GLOB pages CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/docs/man/*.${section})
  install(FILES ${pages} DESTINATION ${CMAKE_INSTALL_MANDIR}/man${section})
endforeach()
install(FILES LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR} RENAME copyright)
install(FILES README.md CHANGELOG.md DESTINATION ${CMAKE_INSTALL_DOCDIR})
install(DIRECTORY examples DESTINATION ${CMAKE_INSTALL_DOCDIR} USE_SOURCE_PERMISSIONS)

# The .deb: `cpack --config build/release/CPackConfig.cmake`, or `cmake --build ... --target package`.
set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_NAME oakum)
set(CPACK_PACKAGE_CONTACT "The Oakum authors <oakum@localhost>")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "${PROJECT_DESCRIPTION}")
set(CPACK_PACKAGE_DESCRIPTION
"Oakum sees to it that what a container sends leaves through the proxy it was given, tells the
operator about everything that does not, and, when asked, stops it. It works with podman, Docker,
containerd and CRI-O over runc or crun, and needs no change in the image.")
set(CPACK_RESOURCE_FILE_LICENSE ${PROJECT_SOURCE_DIR}/LICENSE)
set(CPACK_SET_DESTDIR ON)  # for the files with an absolute destination
set(CPACK_INSTALL_PREFIX /usr)
set(CPACK_STRIP_FILES ON)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SECTION admin)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
# The image of the agent has no use for a runtime, so this is no dependency.
set(CPACK_DEBIAN_PACKAGE_RECOMMENDS "runc | crun")
set(CPACK_DEBIAN_PACKAGE_SUGGESTS "podman, docker.io, containerd, logrotate")
set(CPACK_DEBIAN_PACKAGE_CONTROL_EXTRA
  ${PROJECT_SOURCE_DIR}/packaging/debian/conffiles
  ${PROJECT_SOURCE_DIR}/packaging/debian/postinst
  ${PROJECT_SOURCE_DIR}/packaging/debian/prerm
  ${PROJECT_SOURCE_DIR}/packaging/debian/postrm)
include(CPack)
